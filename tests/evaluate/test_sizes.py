"""Scenes of unequal sizes: the answers follow from what the pictures show."""

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from small_openmoji import SOLID, paints, table, write_package

from neva.evaluate import TASKS, Item, read
from neva.evaluate.scenes import SHAPES
from neva.images import read_image

TASK = TASKS["sizes"]
CODES = {row["annotation"]: row["hexcode"] for row in table()}
WHETHER = re.compile(r"Is the (.+) (larger|smaller) than the (.+)\?")
WHICH = re.compile(r"Which is (larger|smaller), the (.+) or the (.+)\?")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Item]]:
    root = tmp_path_factory.mktemp("sizes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        write_package(root / "package")
        yield read(TASK, root / "package")


def of_kind(items: list[Item], kind: str) -> list[Item]:
    found = [item for item in items if item.kind == kind]
    assert len(found) == 200
    return found


def area(item: Item, phrase: str) -> int:
    """How many pixels have the drawing's colour."""
    code = CODES[phrase]
    paint = SOLID[SHAPES[code][1]] if code in SHAPES else paints()[code]
    colour = np.array([int(paint[i : i + 2], 16) for i in (0, 2, 4)])
    assert item.image is not None
    pixels = read_image(item.image).array.astype(int)
    found = int((np.abs(pixels - colour) <= 2).all(axis=2).sum())
    assert found > 20
    return found


def test_whether_one_is_larger_is_as_the_pixels_show(items: list[Item]) -> None:
    for item in of_kind(items, "whether")[::5]:
        asked = WHETHER.fullmatch(item.question)
        assert asked is not None
        ratio = area(item, asked[1]) / area(item, asked[3])
        assert ratio > 1.8 or ratio < 0.55  # never a matter of taste
        assert item.golds == ("yes" if (ratio > 1) == (asked[2] == "larger") else "no",)


def test_which_of_two_is_as_the_pixels_show(items: list[Item]) -> None:
    first = 0
    for item in of_kind(items, "which"):
        asked = WHICH.fullmatch(item.question)
        assert asked is not None
        first += asked[2] in item.golds
        assert (asked[2] in item.golds) != (asked[3] in item.golds)
        larger = max((asked[2], asked[3]), key=lambda phrase: area(item, phrase))
        assert (larger in item.golds) == (asked[1] == "larger")
        assert TASK.judge(item, f"The {item.golds[0]}.")[1] == 1.0
    assert first == 100


def test_which_of_all_is_as_the_pixels_show(items: list[Item]) -> None:
    ways: Counter[str] = Counter()
    for item in of_kind(items, "of all")[::3]:
        areas = {phrase: area(item, phrase) for phrase, _, _ in item.facts["standing"]}
        end = max if "largest" in item.question else min
        assert end(areas, key=lambda phrase: areas[phrase]) in item.golds
        ways[item.question] += 1
    assert min(ways["What is the largest object?"], ways["What is the smallest object?"]) > 20


def test_floor_needs_no_picture(items: list[Item]) -> None:
    floor = TASK.floor(items)
    assert floor["accuracy.whether"] == floor["accuracy.which"] == 50.0
    assert 5 < floor["accuracy.of all"] < 25  # a keyword of many things counts for each


def test_no_scene_is_one_of_the_other_task(items: list[Item]) -> None:
    codes = {tuple(item.facts["hexcodes"]) for item in items}
    assert len(codes) > 150 and {len(one) for one in codes} == {2, 3, 4}
