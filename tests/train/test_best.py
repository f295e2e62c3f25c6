"""The weights of the lowest held-out loss: few on the disk, and those a resumed run asks for."""

from pathlib import Path
from typing import Any

import pytest
import torch

from neva.model import Checkpoint
from neva.train import loop
from neva.train.best import forget_others, keep_best, read_best
from neva.train.loop import run
from neva.train.recipe import Recipe
from neva.train.state import Snapshot, begin, save, write_values


def left(checkpoints: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("best-")) for path in checkpoints.glob("best-*"))


def snapshot(step: int, best: int) -> Snapshot:
    return Snapshot(step, {"w": torch.zeros(1)}, {"tally": {"best_step": best}})


def test_the_newest_and_the_one_of_the_newest_checkpoint_stay(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        keep_best(tmp_path, step, {"w": torch.full((1,), float(step))})
    save(snapshot(3, 2), tmp_path, keep=2)
    save(snapshot(5, 4), tmp_path, keep=2)
    forget_others(tmp_path, 8)
    assert left(tmp_path) == [4, 8]
    assert float((read_best(tmp_path, 4) or {})["w"]) == 4
    aside = begin(9, tmp_path)  # a checkpoint that other threads are still writing
    write_values(snapshot(9, 8), aside)
    keep_best(tmp_path, 10, {"w": torch.zeros(1)})
    forget_others(tmp_path, 10)
    assert left(tmp_path) == [4, 8, 10]


@pytest.mark.parametrize(("save_every", "most"), [(0, 1), (3, 2)])
def test_they_do_not_pile_up(
    save_every: int,
    most: int,
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loss that falls at every validation, with and without checkpoints in between."""
    counts = [0]

    def told(job: Any, *more: Any) -> None:
        report(job, *more)
        counts.append(len(left(job.folder.checkpoints)))

    report = loop.report
    monkeypatch.setattr(loop, "report", told)
    recipe = Recipe(
        learning_rate=1e-2, batch_size=4, max_steps=16, max_length=256, row_tokens=256, threads=1,
        validation_share=0.3, validate_every=1, save_every=save_every,
    )  # fmt: skip
    summary = run(recipe, parent.path, [data], pictures, tmp_path / "run")
    assert summary.best_step > 3  # more than one was written
    assert max(counts) == most
