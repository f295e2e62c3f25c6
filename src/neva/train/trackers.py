"""Metrics in other programs too: TensorBoard's files, Weights & Biases, trackio.

Each takes the lines of `metrics.jsonl` as they are written. What a program is asked to do with the
network is its own matter: TensorBoard and trackio write files on this machine, W&B sends to its
server unless WANDB_MODE=offline.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from neva.errors import NevaError
from neva.train.folder import RunFolder

PROJECT = "neva"
IDS = "trackers.json"  # in the run folder: a resumed run goes on under the same id

# Keys of a line -> the group under which trackers show them; what is not here is not sent.
GROUPS: Mapping[str, str] = {
    "loss": "train",
    "learning_rate": "train",
    "gradient_norm": "train",
    "samples_per_second": "speed",
    "tokens_per_second": "speed",
    "data_share": "speed",
    "mfu": "speed",
    "memory": "speed",
    "validation_loss": "held out",
    "probe": "held out",
}


class Tracker(Protocol):
    """One program that is told about a run."""

    def write(self, line: Mapping[str, Any]) -> None:
        """A line of the metrics."""
        ...

    def close(self) -> None:
        """Write what is waiting."""
        ...


def names_in(words: str) -> tuple[str, ...]:
    """The names in "tensorboard, wandb".

    NevaError for one that is unknown, or not installed: it names the extra that brings it.
    """
    names = tuple(name.strip() for name in words.split(",") if name.strip())
    for name in names:
        if name not in _KINDS:
            raise NevaError(f"No tracker is called {name!r}; there are {', '.join(_KINDS)}.")
        if find_spec(name) is None:
            raise NevaError(
                f"--track {name} needs {name}, which is not installed: "
                f"pip install 'neva-vlm[{name}]'."
            )
    return names


def open_trackers(
    words: str, folder: RunFolder, recipe: Mapping[str, Any], done: int
) -> list[Tracker]:
    """The trackers named in `words`, see `names_in`; a resumed run goes on after step `done`."""
    return [_KINDS[name](folder, recipe, done) for name in names_in(words)]


def values_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by "group/name"."""
    return {
        f"{group}/{name}": float(line[name])
        for name, group in GROUPS.items()
        if line.get(name) is not None
    }


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, folder: RunFolder, recipe: Mapping[str, Any], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps after `done` were written by a run that was killed, and are written again.
        self._writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=done + 1)
        if not done:
            words = "\n".join(f"    {name}: {json.dumps(v)}" for name, v in recipe.items())
            self._writer.add_text("recipe", words, 0)

    def write(self, line: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        for name, value in values_of(line).items():
            self._writer.add_scalar(name, value, int(line["step"]))

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases; its local files are in RUN/wandb."""

    def __init__(self, folder: RunFolder, recipe: Mapping[str, Any], done: int) -> None:
        import wandb

        self._run = wandb.init(
            project=PROJECT,
            name=folder.path.name,
            id=_id("wandb", folder),
            resume="allow",
            dir=str(folder.path),
            config=dict(recipe),
        )

    def write(self, line: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        if values := values_of(line):
            self._run.log(values, step=int(line["step"]))

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class Trackio:
    """A run of trackio, in its own database (TRACKIO_DIR)."""

    def __init__(self, folder: RunFolder, recipe: Mapping[str, Any], done: int) -> None:
        import trackio

        name = f"{folder.path.name}-{_id('trackio', folder)}"
        self._run = trackio.init(project=PROJECT, name=name, resume="allow", config=dict(recipe))

    def write(self, line: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        if values := values_of(line):
            self._run.log(values, step=int(line["step"]))

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


_KINDS: Mapping[str, Callable[[RunFolder, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


def _id(name: str, folder: RunFolder) -> str:
    """The run's id in a program, drawn once."""
    known = folder.read(IDS) or {}
    if name not in known:
        known[name] = uuid.uuid4().hex[:8]
        folder.write(IDS, known)
    return str(known[name])


def close_all(trackers: Sequence[Tracker]) -> None:
    """Close every one."""
    for tracker in trackers:
        tracker.close()
