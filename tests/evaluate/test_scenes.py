"""Composed scenes: the answers follow from what the pictures show, and nothing was trained on."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_openmoji import SOLID, paints, table, write_package

from neva.errors import DataError
from neva.evaluate import TASKS, Item, read
from neva.evaluate.openmoji import half
from neva.evaluate.scenes import SHAPES
from neva.images import read_image

TASK = TASKS["scenes"]
NAMES = {row["hexcode"]: row["annotation"] for row in table()}
CODES = {name: code for code, name in NAMES.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        write_package(root / "package")
        yield root


@pytest.fixture(scope="module")
def items(place: Path) -> list[Item]:
    return read(TASK, place / "package")


def of_kind(items: list[Item], kind: str) -> list[Item]:
    found = [item for item in items if item.kind == kind]
    assert len(found) >= 80
    return found


def pixels(item: Item) -> NDArray[np.uint8]:
    assert item.image is not None
    return read_image(item.image).array


def seen(array: NDArray[np.uint8], phrase: str) -> tuple[float, float] | None:
    """Where the picture shows the colour of a drawing: its centre (x, y), or None."""
    code = CODES[phrase]
    paint = SOLID[SHAPES[code][1]] if code in SHAPES else paints()[code]
    colour = np.array([int(paint[i : i + 2], 16) for i in (0, 2, 4)])
    ys, xs = np.nonzero((np.abs(array.astype(int) - colour) <= 2).all(axis=2))
    return (float(xs.mean()), float(ys.mean())) if len(xs) > 20 else None


def test_about_a_thousand_questions_on_250_pictures(items: list[Item]) -> None:
    assert 950 <= len(items) <= 1100
    assert len({item.image for item in items}) == 250
    shapes = {pixels(item).shape[:2] for item in items[::9]}
    assert len({round(width / height, 1) for height, width in shapes}) >= 5


def test_counts_are_what_stands_there(items: list[Item]) -> None:
    for item in of_kind(items, "count"):
        standing = [phrase for phrase, _, _ in item.facts["standing"]]
        asked = re.fullmatch(r"How many pictures of (.+) are there\?", item.question)
        count = standing.count(asked[1]) if asked else len(standing)
        assert item.golds == (str(count),)
        cells = [(column, row) for _, column, row in item.facts["standing"]]
        assert len(set(cells)) == len(cells)


def test_pictures_show_as_many_blocks(items: list[Item]) -> None:
    for item in of_kind(items, "count")[::23]:
        array = pixels(item)
        ink = (np.abs(array.astype(int) - array[0, 0]) > 40).any(axis=2)
        columns, rows = (max(c[i] for c in item.facts["standing"]) + 1 for i in (1, 2))
        assert columns <= 3
        assert rows <= 3
        filled = blocks(ink)
        assert filled == len(item.facts["standing"])


def blocks(ink: NDArray[np.bool_]) -> int:
    """How many pieces the ink is in (4-neighbours), by flooding."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(ink), strict=True)}
    count = 0
    while left:
        count += 1
        edge = [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            edge += near
    return count


def test_sides_are_as_the_pixels_show(items: list[Item]) -> None:
    link = re.compile(r"Is the (.+?) (to the left of|to the right of|above|below) the (.+)\?")
    either = re.compile(r"Is the (.+?) (left or right of|above or below) the (.+)\?")
    for item in of_kind(items, "side")[::3]:
        found = either.fullmatch(item.question) or link.fullmatch(item.question)
        assert found is not None
        array = pixels(item)
        one, other = seen(array, found[1]), seen(array, found[3])
        assert one is not None
        assert other is not None
        if "left" in found[2] or "right" in found[2]:
            gap, truth = other[0] - one[0], ("left", "right")
        else:
            gap, truth = other[1] - one[1], ("above", "below")
        assert abs(gap) > 20  # nearly a cell, never a matter of taste
        true = truth[0] if gap > 0 else truth[1]
        if " or " in found[2]:
            assert item.golds == (true,)
        else:
            assert item.golds == ("yes" if true in found[2] else "no",)


def test_ends_are_as_the_pixels_show(items: list[Item]) -> None:
    axis = {"on the left": (0, min), "on the right": (0, max), "at the top": (1, min),
            "at the bottom": (1, max)}  # fmt: skip
    for item in of_kind(items, "what")[::2]:
        array = pixels(item)
        where, end = axis[item.question.removeprefix("What is ").removesuffix("?")]
        places = {phrase: seen(array, phrase) for phrase, _, _ in item.facts["standing"]}
        ends = {phrase: spot[where] for phrase, spot in places.items() if spot is not None}
        outermost = end(ends, key=lambda phrase: ends[phrase])
        assert item.golds[0] == outermost
        assert TASK.judge(item, f"It is a {outermost}.")[1] == 1.0


def test_presence_and_colours_are_as_the_pixels_show(items: list[Item]) -> None:
    for item in of_kind(items, "presence"):
        asked = re.fullmatch(r"Is there an? (.+) in the picture\?", item.question)
        assert asked is not None
        there = asked[1] in [phrase for phrase, _, _ in item.facts["standing"]]
        assert item.golds == ("yes" if there else "no",)
        if CODES[asked[1]] not in SHAPES:
            assert (seen(pixels(item), asked[1]) is not None) == there
    for item in of_kind(items, "color")[::3]:
        asked = re.fullmatch(r"What color is the (.+)\?", item.question)
        assert asked is not None
        assert seen(pixels(item), f"{item.golds[0]} {asked[1]}") is not None
        matching = [p for p, _, _ in item.facts["standing"] if p.endswith(" " + asked[1])]
        assert matching == [f"{item.golds[0]} {asked[1]}"]  # one such shape: no ambiguity


def test_answers_are_balanced(items: list[Item]) -> None:
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        forms[item.facts["form"]][item.golds[0]] += 1
    for form in ("whether", "left or right", "above or below", "count all", "count of one",
                 "presence of a thing", "presence of a shape"):  # fmt: skip
        assert max(forms[form].values()) - min(forms[form].values()) <= 1, form
        assert len(forms[form]) == (5 if form.startswith("count") else 2)


def test_floor_needs_no_picture(items: list[Item]) -> None:
    floor = TASK.floor(items)
    assert floor["accuracy.count"] == 20.0
    assert floor["accuracy.side"] == 50.0
    assert floor["accuracy.presence"] == pytest.approx(50.0, abs=1)
    assert floor["accuracy.color"] < 25
    assert floor["accuracy.what"] < 25
    assert 25 < floor["accuracy"] < 40


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [("3", "three", 1), ("3", "3.", 1), ("3", "33", 0), ("3", "3 or 4", 0), ("yes", "Yes", 1),
     ("yes", "yes and no", 0), ("red", "It is red.", 1), ("red", "", 0), ("left", "right", 0)],
)  # fmt: skip
def test_judges_the_whole_answer(gold: str, answer: str, right: int) -> None:
    assert TASK.judge(Item("x", "?", None, (gold,)), answer)[1] == right


def test_the_same_every_time(
    place: Path, items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    again = TASK.load(place / "package")
    assert [(i.id, i.question, i.golds) for i in again] == [
        (i.id, i.question, i.golds) for i in items
    ]
    for one, other in list(zip(items, again, strict=True))[::197]:
        assert one.image != other.image
        assert np.array_equal(pixels(one), pixels(other))


def test_nothing_that_a_model_learnt_from(items: list[Item]) -> None:
    from zoo.sources import NEVER_TRAINED_ON, training_sets

    used = {code for item in items for code in item.facts["hexcodes"]}
    assert used <= set(SHAPES) | set(paints())
    assert all(half(code) == "report" for code in used - set(SHAPES))
    assert "forbidden" not in " ".join(item.question for item in items)
    assert {"openmoji", "tuxpaint-stamps-default"} <= set(NEVER_TRAINED_ON)
    assert not {one.set_name for one in training_sets()} & set(NEVER_TRAINED_ON)


def test_a_poor_table_is_one_sentence(place: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [row for row in table() if row["group"] != "objects"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "openmoji.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="lacks shapes or objects"):
        TASK.load(tmp_path)
