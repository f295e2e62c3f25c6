"""Exact checkpoints: all that a run needs to go on as if it had never stopped, never a pickle.

One checkpoint is a folder `checkpoints/step-00000120/` with `tensors.safetensors` (masters and
moments of the optimiser, the random state) and `state.json` (step, data cursor, counts). It is
written aside, flushed to the disk and renamed, so that a folder with its final name is complete,
whenever the process is killed.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neva.errors import CheckpointError
from neva.train.durable import publish

FORMAT = 1
_PREFIX = "step-"
_ASIDE = ".writing-"


@dataclass(frozen=True)
class Snapshot:
    """A moment of a run: `tensors` by name, and everything that fits JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def random_state() -> Tensor:
    """Torch's generator on the CPU, uint8 (bytes,). Nothing else in a step draws numbers."""
    return torch.get_rng_state()


def restore_random_state(state: Tensor) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state)


def save(snapshot: Snapshot, folder: Path, keep: int) -> Path:
    """Write `snapshot` under `folder`, then remove all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{_PREFIX}{snapshot.step:08d}"
    aside, final = folder / f"{_ASIDE}{name}", folder / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    tensors = {k: v.detach().cpu().contiguous() for k, v in snapshot.tensors.items()}
    save_file(tensors, aside / "tensors.safetensors")
    state = {"format": FORMAT, "step": snapshot.step, **snapshot.values}
    (aside / "state.json").write_text(json.dumps(state))
    publish(aside, final)
    for old in _complete(folder)[:-keep]:
        # A rename first: a kill inside rmtree must not leave half a folder with a final name.
        doomed = old.rename(folder / f"{_ASIDE}{old.name}")
        shutil.rmtree(doomed)
    return final


def newest(folder: Path) -> Snapshot | None:
    """The newest checkpoint under `folder` that can be read, or None where there is none."""
    for aside in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(aside, ignore_errors=True)
    broken: list[str] = []
    for path in reversed(_complete(folder)):
        try:
            return _load(path)
        except (OSError, ValueError, SafetensorError) as error:
            broken.append(f"{path.name} ({error})")
    if broken:
        raise CheckpointError(
            f"{folder}: no checkpoint can be read: {'; '.join(broken)}. Start again without "
            "--resume in another folder."
        )
    return None


def _load(path: Path) -> Snapshot:
    values = json.loads((path / "state.json").read_text())
    if values.get("format") != FORMAT:
        raise ValueError(f"format {values.get('format')} is not {FORMAT}")
    return Snapshot(int(values["step"]), load_file(path / "tensors.safetensors"), values)


def _complete(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))
