"""Exact checkpoints: all that a run needs to go on as if it had never stopped, never a pickle.

One checkpoint is a folder `checkpoints/step-00000120/` of safetensors (masters and moments of the
optimiser, the random states) and `state.json` (step, data cursor, counts). One process writes
`tensors.safetensors`; of several, each writes the pieces that it holds (`neva.train.saver`). Either
is read on any number of processes. A folder is written aside, flushed to the disk and renamed, so
that one with its final name is complete, whenever the process is killed.
"""

import json
import shutil
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from neva.errors import CheckpointError
from neva.train.durable import publish

FORMAT = 1
_PREFIX = "step-"
_ASIDE = ".writing-"
_CPU_STATE = 5056  # bytes of torch's CPU generator; what follows is the GPU's


@dataclass(frozen=True)
class Snapshot:
    """A moment of a run: `tensors` by name, and everything that fits JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Saved:
    """A checkpoint on the disk. Its tensors are read when they are asked for."""

    path: Path
    step: int
    values: Mapping[str, Any]

    @cached_property
    def _files(self) -> dict[str, str]:
        """Tensor -> a file that has (a piece of) it. Opening one checks its length."""
        found: dict[str, str] = {}
        for file in sorted(self.path.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                found |= dict.fromkeys(opened.keys(), str(file))
        return found

    def names(self) -> Collection[str]:
        """Of all tensors."""
        return self._files.keys()

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Read `tensors` in place; of what is divided, this process's piece. KeyError."""
        for name in tensors:
            if name not in self._files:
                raise KeyError(f"{self.path} has no {name}")
        reader = HuggingFaceStorageReader(str(self.path))
        with warnings.catch_warnings():  # that it is read without the others is meant so
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(dict(tensors), storage_reader=reader, no_dist=True)

    def read(self, name: str) -> Tensor:
        """One tensor that is not divided. KeyError."""
        with safe_open(self._files[name], framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
        return tensor


def random_state() -> Tensor:
    """Torch's generators, uint8 (bytes,). Nothing else in a step draws numbers."""
    state = torch.get_rng_state()
    return torch.cat([state, torch.cuda.get_rng_state()]) if torch.cuda.is_available() else state


def restore_random_state(state: Tensor) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state[:_CPU_STATE].clone())
    if len(state) > _CPU_STATE and torch.cuda.is_available():
        torch.cuda.set_rng_state(state[_CPU_STATE:].clone())


def save(snapshot: Snapshot, folder: Path, keep: int) -> Path:
    """Write `snapshot` under `folder`, then remove all but the newest `keep`."""
    aside = begin(snapshot.step, folder)
    tensors = {k: v.detach().cpu().contiguous() for k, v in snapshot.tensors.items()}
    save_file(tensors, aside / "tensors.safetensors")
    write_values(snapshot, aside)
    return complete(snapshot.step, folder, keep)


def begin(step: int, folder: Path) -> Path:
    """An empty folder aside, for a checkpoint to be written into."""
    aside = folder / f"{_ASIDE}{_PREFIX}{step:08d}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    return aside


def write_values(snapshot: Snapshot, aside: Path) -> None:
    """Write `state.json`."""
    state = {"format": FORMAT, "step": snapshot.step, **snapshot.values}
    (aside / "state.json").write_text(json.dumps(state))


def complete(step: int, folder: Path, keep: int) -> Path:
    """Give what was written aside its name, then remove all but the newest `keep`."""
    name = f"{_PREFIX}{step:08d}"
    final = folder / name
    publish(folder / f"{_ASIDE}{name}", final)
    for old in _complete(folder)[:-keep]:
        # A rename first: a kill inside rmtree must not leave half a folder with a final name.
        doomed = old.rename(folder / f"{_ASIDE}{old.name}")
        shutil.rmtree(doomed)
    return final


def newest(folder: Path) -> Saved | None:
    """The newest checkpoint under `folder` that can be read, or None where there is none."""
    broken: list[str] = []
    for path in reversed(_complete(folder)):
        try:
            return _open(path)
        except (OSError, ValueError, SafetensorError) as error:
            broken.append(f"{path.name} ({error})")
    if broken:
        raise CheckpointError(
            f"{folder}: no checkpoint can be read: {'; '.join(broken)}. Start again without "
            "--resume in another folder."
        )
    return None


def clear_unfinished(folder: Path) -> None:
    """Remove what a kill during a save has left."""
    for aside in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(aside, ignore_errors=True)


def _open(path: Path) -> Saved:
    values = json.loads((path / "state.json").read_text())
    if values.get("format") != FORMAT:
        raise ValueError(f"format {values.get('format')} is not {FORMAT}")
    saved = Saved(path, int(values["step"]), values)
    if not saved.names():
        raise ValueError("no tensors")
    return saved


def _complete(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))
