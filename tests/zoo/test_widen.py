"""New sources join a trained CLIP: old rows and axes stay, names keep their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_gallery
import torch
import zoo.widen as room
from torch import nn
from zoo.clip_train import carried, carry_moments, rows_of
from zoo.clipart import chosen
from zoo.drawings import Gallery, render
from zoo.names import squash
from zoo.teacher import EfficientNetLite0, Whitening, feature_maps, flatten


def work_of(folder: Path) -> EfficientNetLite0:
    """A gallery of a dozen drawings and a teacher of random weights; its axes are any."""
    torch.manual_seed(0)
    model = EfficientNetLite0().eval().requires_grad_(False)
    tiny_gallery.build(folder)
    middle, late = feature_maps(Gallery.open(folder / "drawings"), model)
    teacher = folder / "teacher"
    teacher.mkdir()
    np.save(teacher / "middle.npy", middle)
    np.save(teacher / "late.npy", late)
    width = flatten(middle, late).shape[1]
    rng = np.random.default_rng(1)
    centre, matrix = np.zeros(width, np.float32), np.eye(width, dtype=np.float32)
    np.savez(teacher / "whitening.npz", centre=centre, matrix=matrix)
    axes = rng.normal(size=(width, 256)).astype(np.float32)
    whitened = Whitening(centre, matrix)(flatten(middle, late))
    np.save(teacher / "vectors.npy", whitened @ axes + 0.5)
    return model


def test_rows_are_appended_along_the_old_axes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = work_of(tmp_path)
    before = Gallery.open(tmp_path / "drawings")
    old, vectors = np.array(before.pixels), np.load(tmp_path / "teacher" / "vectors.npy")
    again = [(d, svg) for d, svg in tiny_gallery.jobs() if d.set_name == "mdi"]
    added = [(drawing.__class__(**{**vars(drawing), "set_name": "new"}), svg)
             for drawing, svg in again]  # fmt: skip
    made = [drawing for drawing, _ in added], np.stack([render(svg) for _, svg in added])
    monkeypatch.setattr(room, "rendered", lambda work, sets: made)
    monkeypatch.setattr(room.EfficientNetLite0, "pretrained", lambda packages: model)
    assert room.widen(tmp_path, ("new",)) == len(again)
    after = Gallery.open(tmp_path / "drawings")
    count = len(before.drawings)
    assert after.drawings[:count] == before.drawings
    assert (after.pixels[:count] == old).all()
    assert [d.set_name for d in after.drawings[count:]] == ["new"] * len(again)
    now = np.load(tmp_path / "teacher" / "vectors.npy")
    assert np.array_equal(now[:count], vectors)
    same = [n for n, d in enumerate(before.drawings) if d.set_name == "mdi"]
    assert np.allclose(now[count:], vectors[same], atol=0.05), "the same drawings, the same vectors"
    with pytest.raises(ValueError, match="has new already"):
        room.widen(tmp_path, ("new",))


def test_names_keep_their_vectors_whatever_their_order() -> None:
    rows = rows_of(["c", "new", "a"], ["a", "b", "c"])
    assert rows.tolist() == [2, -1, 0]
    old, fresh = torch.eye(3), torch.full((3, 3), 7.0)
    assert torch.equal(carried(rows, old, fresh), torch.stack([old[2], fresh[0], old[0]]))


def test_an_optimiser_remembers_kept_names_and_nothing_of_new_ones() -> None:
    other, names = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3, 2))
    optimiser = torch.optim.AdamW([other, names])
    (other.sum() + names.mul(torch.tensor([[1.0], [2.0], [3.0]])).sum()).backward()
    optimiser.step()
    saved, wide = optimiser.state_dict(), nn.Parameter(torch.ones(4, 2))
    fresh = torch.optim.AdamW([other, wide])
    carry_moments(torch.tensor([2, -1, 0, 1]), wide, fresh, saved)
    fresh.load_state_dict(saved)
    kept = fresh.state_dict()["state"][1]["exp_avg"][:, 0]
    assert torch.allclose(kept, torch.tensor([0.3, 0.0, 0.1, 0.2]))


def test_the_table_of_clip_art_says_each_picture_once() -> None:
    rows = list(chosen(Path("package")))
    assert len({identifier for identifier, _, _ in rows}) == len(rows) > 500
    assert all(squash(name) for _, name, _ in rows)
    assert rows[0][2].suffix == ".png" and rows[0][2].parts[0] == "package"
