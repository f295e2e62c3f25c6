"""The weights of the lowest validation loss, kept while the run goes on and written at its end.

While it goes on they are the float32 masters of what learns, in RUN/checkpoints/best-00000040/. Of
these there are at most the newest and the one that the newest checkpoint to resume from knows, so
that a run that is killed and resumed finds the one it knows of.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from neva.train.durable import publish

_PREFIX = "best-"
_FILE = "masters.safetensors"


def _place(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"{_PREFIX}{step:08d}"


def keep_best(checkpoints: Path, step: int, masters: Mapping[str, Tensor]) -> None:
    """Write the masters of `step`, all or nothing."""
    aside = checkpoints / f".writing-{_PREFIX}{step:08d}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in masters.items()}, aside / _FILE)
    publish(aside, _place(checkpoints, step))


def forget_others(checkpoints: Path, step: int) -> None:
    """Remove all but the one of `step` and the one that a resumed run would ask for."""
    kept = {_place(checkpoints, known) for known in (step, *_known(checkpoints))}
    for path in checkpoints.glob(f"{_PREFIX}*"):
        if path not in kept:
            shutil.rmtree(path)


def _known(checkpoints: Path) -> Iterator[int]:
    """Best steps of the newest checkpoint to resume from, and of one that is being written."""
    newest = sorted(checkpoints.glob("step-*"))[-1:]
    for path in (*newest, *checkpoints.glob(".writing-step-*")):
        file = path / "state.json"
        if file.is_file():
            yield int(json.loads(file.read_text())["tally"].get("best_step", 0))


def read_best(checkpoints: Path, step: int) -> dict[str, Tensor] | None:
    """The masters of `step`; None where they are not there."""
    file = _place(checkpoints, step) / _FILE
    return load_file(file) if file.is_file() else None
