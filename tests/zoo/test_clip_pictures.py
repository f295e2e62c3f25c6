"""What CLIP is shown: scenes whose patches have owners, drawings by another hand, frames."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_gallery
import torch
import torch.nn.functional as F
from PIL import Image
from zoo.augment import BARRED, CLIP_MEAN, barred, frame, greatest, redrawn, room_beside
from zoo.clip_data import Item, Sampler, is_emoji, keeps_colours
from zoo.mosaics import Director, compose_mosaics
from zoo.naming import restyled


def test_each_patch_of_a_scene_belongs_to_what_covers_it(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    director = Director(Sampler(tmp_path))
    made = compose_mosaics(director, 12, np.random.default_rng(3))
    again = compose_mosaics(director, 12, np.random.default_rng(3))
    assert torch.equal(made.pixels, again.pixels) and torch.equal(made.owner, again.owner)
    assert len(made.items) == int(made.counts.sum())
    start = 0
    for owner, count in zip(made.owner, made.counts.tolist(), strict=True):
        assert set(owner.tolist()) <= {-1, *range(start, start + count)}
        start += count


def test_another_hand_keeps_the_outline_and_spares_flags(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 10:30] = (200, 30, 30, 255)
    moved = restyled(Image.fromarray(pixels, "RGBA"), np.random.default_rng(0))
    assert np.array_equal(np.asarray(moved)[..., 3], pixels[..., 3])
    assert not np.array_equal(np.asarray(moved)[..., :3], pixels[..., :3])
    apple = SimpleNamespace(concept="red apple", group="food-drink")
    cat = SimpleNamespace(concept="cat", group="animals-nature")
    assert [keeps_colours(d) for d in (apple, cat)] == [True, False]  # type: ignore[arg-type]


@pytest.mark.parametrize("wide", [3, 5, 7, 9, 11])
def test_the_greatest_in_a_window_is_max_pooling(wide: int) -> None:
    x = torch.randn(2, 4, 20, 33)
    assert torch.equal(greatest(x, wide), F.max_pool2d(x, wide, 1, wide // 2))
    within = F.max_pool2d(F.pad(x, (wide // 2,) * 4), wide, 1)
    assert torch.equal(greatest(x, wide, beyond=0.0), within)


def test_a_frame_darkens_the_rim_and_keeps_the_colours_within() -> None:
    flag = torch.zeros(2, 4, 128, 128)
    flag[:, 0], flag[:, 3] = 0.8, 1.0  # red to the picture's edge: beyond it is nothing
    made = frame(flag, np.random.default_rng(0))
    assert torch.equal(made[:, 3], flag[:, 3])
    assert made[:, :3, 0].max() < 0.2 and made[:, :3, :, 0].max() < 0.2
    assert (made[:, :3, 40:50, 40:50] - flag[:, :3, 40:50, 40:50]).abs().max() < 0.3
    item = Item("art", 0, "flag: Chad", "", framed=True)
    assert torch.equal(redrawn([item, replace(item, framed=False)], flag.clone(),
                               np.random.default_rng(0))[1], flag[1])  # fmt: skip


def test_an_icon_that_is_named_as_an_emoji_is_one_more_drawing_of_it(tmp_path: Path) -> None:
    tiny_gallery.build(tmp_path)
    sampler = Sampler(tmp_path)
    known = {d.concept for d in sampler.gallery.drawings if d.kind in ("emoji", "flag")}
    rows = [row for held in sampler.by_concept.values() for row in held]
    assert {sampler.gallery.drawings[row].concept for row in rows} >= known
    cat = next(d for d in sampler.gallery.drawings if d.kind == "emoji" and d.codepoint)
    assert is_emoji(replace(cat, kind="icon"))
    assert not is_emoji(replace(cat, kind="mono"))
    assert not is_emoji(replace(cat, kind="icon", codepoint=""))


def test_bars_reach_at_most_up_to_the_drawing() -> None:
    drawn = torch.zeros(400, 128, 128)
    drawn[:, 10:120, 50:90] = 1  # upright, 38 pixels free at the right and 50 at the left
    drawn[200:] = drawn[200:].mT.clone()
    before = torch.rand(400, 3, 128, 128)
    made = barred(before.clone(), drawn, np.random.default_rng(0))
    bars = (made == torch.tensor(CLIP_MEAN).view(3, 1, 1)).all(1)
    assert torch.equal(made[~bars[:, None].expand_as(made)], before[~bars[:, None].expand_as(made)])
    assert not (bars & drawn.bool()).any()
    has = bars.flatten(1).any(1)
    assert abs(has.float().mean() - BARRED) < 0.08
    wide = bars[:200].all(1).sum(1)[has[:200]]
    assert wide.max() == 2 * 38 and (wide == 2 * 38).float().mean() > 0.3
    assert torch.equal(bars[:200].all(1), bars[:200].all(1).flip(1))
    full = torch.ones(20, 128, 128)
    whole = torch.rand(20, 3, 128, 128)
    assert torch.equal(barred(whole.clone(), full, np.random.default_rng(0)), whole)


def test_beside_nothing_there_is_no_room() -> None:
    line = torch.zeros(3, 128, dtype=torch.bool)
    line[0, 20:100] = line[1, 5] = True
    assert room_beside(line) == [20, 5, 0]
