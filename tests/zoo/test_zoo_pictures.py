"""What records show: shapes with outlines, layouts, pictures of nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.colours import COLOURS, DRAWN, OUTLINED, SHAPES, Shape, draw_shape, shade, surveyed
from zoo.layouts import grids, loose_grid, overlap, scattered, spread
from zoo.photographs import PHOTOGRAPHS
from zoo.snapshots import FILES, LEAST, Snapshots
from zoo.unsure import (
    REAL,
    TEXTURES,
    Texture,
    bodies,
    nothing,
    photograph_like,
    tube,
    unsure_example,
)

from zoo import phrasing as say


@pytest.mark.parametrize("kind", DRAWN)
def test_most_of_a_shape_has_its_colour(kind: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(12):
        pixels = np.asarray(draw_shape(Shape(kind, "white"), 90, rng)).astype(int)
        assert max(pixels.shape[:2]) == 90
        inside = pixels[pixels[..., 3] > 250][:, :3]
        assert (inside.min(1) > 220).mean() > 0.35, kind


def test_shades_are_those_that_people_call_so() -> None:
    rng = np.random.default_rng(0)
    blues = np.array([shade("blue", rng) for _ in range(300)])
    assert (blues.argmax(1) == 2).mean() > 0.85
    assert len({tuple(blue // 16) for blue in blues}) > 100
    assert all(surveyed(name) for name in COLOURS if name not in ("gray", "black", "white"))
    assert (0x89, 0xFE, 0x05) in surveyed("green"), "lime green"
    assert (0xC0, 0xFB, 0x2D) not in surveyed("green"), "yellow green"
    assert not any(r == g == b for r, g, b in surveyed("red"))


def test_about_half_of_the_shapes_have_a_dark_outline() -> None:
    rng, dark = np.random.default_rng(0), 0
    for _ in range(200):
        pixels = np.asarray(draw_shape(Shape("square", "white"), 60, rng))
        solid = pixels[..., 3] > 250
        inked = solid & (pixels[..., :2].max(-1) < 190)
        dark += bool(inked.any())
        assert not inked[28:32, 28:32].any()
    assert abs(dark / 200 - OUTLINED) < 0.12


def test_clip_heads_keep_their_size() -> None:
    assert len(SHAPES) == 12 and DRAWN[:12] == SHAPES and "heart" in DRAWN


@pytest.mark.parametrize("lay_out", [scattered, loose_grid])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_boxes_are_in_the_page_apart_and_in_proportion(lay_out, count: int) -> None:
    sizes = [(40, 30), (20, 60), (50, 50), (90, 80), (33, 34)][:count]
    for seed in range(20):
        laid = lay_out(sizes, np.random.default_rng(seed), [1.0] * count)
        for n, (left, top, right, bottom) in enumerate(laid.boxes):
            assert 0 <= left < right <= laid.page[0] and 0 <= top < bottom <= laid.page[1]
            ratio = sizes[n][0] / sizes[n][1]
            assert abs((right - left) / (bottom - top) / ratio - 1) < 0.15
            for other in laid.boxes[n + 1 :]:
                apart = right <= other[0] or other[2] <= left
                assert apart or bottom <= other[1] or other[3] <= top


@pytest.mark.parametrize("lay_out", [scattered, loose_grid])
def test_scales_make_some_larger(lay_out) -> None:
    for seed in range(20):
        laid = lay_out([(50, 50)] * 3, np.random.default_rng(seed), [1.4, 0.5, 0.5])
        large, *small = [right - left for left, _, right, _ in laid.boxes]
        assert all(large > 1.5 * one for one in small)


def test_some_scenes_stand_on_grids_in_pages_of_many_shapes() -> None:
    pages = [spread([(9, 9)] * 3, np.random.default_rng(n)).page for n in range(200)]
    oblong = [max(page) / min(page) > 1.3 for page in pages]
    assert 0.1 < np.mean(oblong) < 0.4
    assert overlap((0, 0, 10, 10), (12, 0, 20, 10)) and not overlap((0, 0, 9, 9), (20, 0, 30, 9))
    assert (1, 1) in grids(1) and (1, 1) not in grids(2) and (4, 1) in grids(3)


def test_pictures_of_nothing_are_answered_honestly() -> None:
    said = set()
    for seed in range(24):
        example = unsure_example(np.random.default_rng(seed))
        answers = [answer for _, answer in example.turns]
        assert example.picture is not None and len(answers) == 2 and say.UNSURE in answers
        said |= set(answers)
        again = unsure_example(np.random.default_rng(seed))
        assert again.picture is not None
        assert again.turns == example.turns
        assert again.picture.tobytes() == example.picture.tobytes()
    assert said == {say.UNSURE, say.BLANK, say.NOISE, say.OUTSIDE}


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    """Two photographs: one red, one blue, both with a bright left half."""
    for name, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        picture = Image.new("RGB", (300, 200), colour)
        picture.paste((240, 240, 240), (0, 0, 150, 200))
        picture.save(tmp_path / f"{name}.png")
    return Snapshots((tmp_path / "red.png", tmp_path / "blue.png"))


def test_snapshots_are_cut_anew_each_time(snapshots: Snapshots) -> None:
    views = [snapshots.view(np.random.default_rng(seed)) for seed in range(30)]
    assert len({view.tobytes() for view in views}) == 30
    assert views[3].tobytes() == snapshots.view(np.random.default_rng(3)).tobytes()
    red = [np.asarray(view).reshape(-1, 3).mean(0) for view in views]
    assert any(mean[0] > mean[2] + 20 for mean in red)
    assert any(mean[2] > mean[0] + 20 for mean in red)
    assert 0 < LEAST < 1


def test_some_pictures_of_nothing_are_photographs(snapshots: Snapshots) -> None:
    seen = 0
    for seed in range(60):
        picture, said = nothing(np.random.default_rng(seed), snapshots)
        same = nothing(np.random.default_rng(seed))[0]
        if picture.tobytes() != same.tobytes():
            seen += 1
            assert said == say.OUTSIDE
    assert abs(seen / 60 - REAL) < 0.2


def test_no_photograph_of_the_test_is_learnt_from() -> None:
    learnt = {Path(name).stem for name in FILES}
    assert len(learnt) == len(FILES)
    assert not learnt & {Path(one.name).stem for one in PHOTOGRAPHS}


@pytest.mark.parametrize("texture", [bodies, tube])
def test_bodies_and_tubes_stay_within_the_picture(texture: Texture) -> None:
    for seed in range(8):
        pixels = texture(60, 90, np.random.default_rng(seed))
        assert pixels.shape == (60, 90, 3) and np.isfinite(pixels).all()
        assert np.array_equal(pixels, texture(60, 90, np.random.default_rng(seed)))


def test_photograph_like_pictures_have_no_flat_areas() -> None:
    assert len(set(TEXTURES)) >= 7
    for seed in range(20):
        picture = photograph_like((97, 120), np.random.default_rng(seed))
        assert picture.size == (97, 120)
        grey = np.asarray(picture.convert("L")).astype(int)
        assert len(np.unique(grey)) > 30 and (np.diff(grey, axis=1) == 0).mean() < 0.8
