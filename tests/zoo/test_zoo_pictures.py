"""What records show: shapes with outlines, layouts, pictures of nothing."""

import numpy as np
import pytest
from zoo.colours import DRAWN, OUTLINED, SHAPES, Shape, draw_shape
from zoo.layouts import grids, loose_grid, overlap, scattered, spread
from zoo.unsure import TEXTURES, photograph_like, unsure_example

from zoo import phrasing as say


@pytest.mark.parametrize("kind", DRAWN)
def test_most_of_a_shape_has_its_colour(kind: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(12):
        pixels = np.asarray(draw_shape(Shape(kind, "blue"), 90, rng)).astype(int)
        assert max(pixels.shape[:2]) == 90
        red, green, blue = (pixels[pixels[..., 3] > 250][:, n] for n in range(3))
        coloured = (blue > 150) & (blue > red + 40) & (blue > green)  # the sky's too
        assert coloured.mean() > 0.35, kind


def test_about_half_of_the_shapes_have_a_dark_outline() -> None:
    rng, dark = np.random.default_rng(0), 0
    for _ in range(200):
        pixels = np.asarray(draw_shape(Shape("square", "yellow"), 60, rng))
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
        laid = lay_out(sizes, np.random.default_rng(seed))
        for n, (left, top, right, bottom) in enumerate(laid.boxes):
            assert 0 <= left < right <= laid.page[0] and 0 <= top < bottom <= laid.page[1]
            ratio = sizes[n][0] / sizes[n][1]
            assert abs((right - left) / (bottom - top) / ratio - 1) < 0.15
            for other in laid.boxes[n + 1 :]:
                apart = right <= other[0] or other[2] <= left
                assert apart or bottom <= other[1] or other[3] <= top


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


def test_photograph_like_pictures_have_no_flat_areas() -> None:
    assert len(set(TEXTURES)) >= 7
    for seed in range(20):
        picture = photograph_like((97, 120), np.random.default_rng(seed))
        assert picture.size == (97, 120)
        grey = np.asarray(picture.convert("L")).astype(int)
        assert len(np.unique(grey)) > 30 and (np.diff(grey, axis=1) == 0).mean() < 0.8
