"""Checkpoints to resume from: complete or absent, newest first, never more than asked for."""

from pathlib import Path

import pytest
import torch

from neva.errors import CheckpointError
from neva.train.state import Snapshot, clear_unfinished, newest, save


def snapshot(step: int) -> Snapshot:
    tensors = {"master.w": torch.full((2, 3), float(step)), "random": torch.get_rng_state()}
    return Snapshot(step, tensors, {"cursor": {"epoch": 1, "place": step}})


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save(snapshot(7), tmp_path, keep=2)
    back = newest(tmp_path)
    assert back is not None and back.step == 7
    filled = {"master.w": torch.zeros(2, 3)}
    back.fill(filled)
    assert torch.equal(filled["master.w"], torch.full((2, 3), 7.0))
    assert torch.equal(back.read("random"), torch.get_rng_state())
    with pytest.raises(KeyError, match=r"mean\.w"):
        back.fill({"mean.w": torch.zeros(2, 3)})
    assert back.values["cursor"] == {"epoch": 1, "place": 7}


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        save(snapshot(step), tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]


def test_a_half_written_one_is_ignored_and_removed(tmp_path: Path) -> None:
    save(snapshot(3), tmp_path, keep=2)
    half = tmp_path / ".writing-step-00000004"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"\x00" * 20)
    back = newest(tmp_path)
    assert back is not None and back.step == 3
    clear_unfinished(tmp_path)
    assert not half.exists()


def test_a_damaged_newest_falls_back_and_all_damaged_is_an_error(tmp_path: Path) -> None:
    for step in (1, 2):
        save(snapshot(step), tmp_path, keep=2)
    (tmp_path / "step-00000002" / "tensors.safetensors").write_bytes(b"broken")
    back = newest(tmp_path)
    assert back is not None and back.step == 1
    (tmp_path / "step-00000001" / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="no checkpoint can be read"):
        newest(tmp_path)


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert newest(tmp_path / "checkpoints") is None
