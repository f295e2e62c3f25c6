"""Naming OpenMoji: which drawings, which names, and that SVGs become pictures on white."""

import json
from pathlib import Path

import numpy as np
import pytest

from neva.errors import DataError
from neva.evaluate import TASKS, Item, Judged
from neva.evaluate.normalise import bare
from neva.evaluate.openmoji import half
from neva.evaluate.report import confusion
from neva.images import read_image

TASK = TASKS["openmoji"]
RECT = '<rect x="18" y="18" width="36" height="36" fill="#f00"/>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{RECT}</svg>'


def row(hexcode: str, annotation: str, tags: str, **more: str) -> dict[str, str]:
    base = {"group": "objects", "skintone": ""}
    return {"hexcode": hexcode, "annotation": annotation, "tags": tags, **base, **more}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [
        row("1F97D", "goggles", "dive, eye, protection, scuba"),
        row("1F1EB-1F1F7", "flag: France", "FR, flag", group="flags"),
        row("1F44B-1F3FB", "waving hand: light skin tone", "hand", skintone="1"),
        row("E000", "goldfish", "", group="extras-openmoji"),
    ]
    root = tmp_path / "package"
    (root / "data").mkdir(parents=True)
    (root / "data" / "openmoji.json").write_text(json.dumps(rows))
    (root / "color" / "svg").mkdir(parents=True)
    for one in rows:
        (root / "color" / "svg" / f"{one['hexcode']}.svg").write_text(SVG)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def test_leaves_out_skin_tones_and_extras(package: Path) -> None:
    items = TASK.load(package)
    assert [(item.id, item.kind) for item in items] == [
        ("1F97D", "emoji"),
        ("1F1EB-1F1F7", "flag"),
    ]


def test_draws_cropped_on_white_once(package: Path) -> None:
    path = TASK.load(package)[0].image
    assert path is not None
    array = read_image(path).array
    height, width, _ = array.shape
    assert height == width < 256  # the drawing fills half of its canvas
    assert np.array_equal(array[0, 0], [255, 255, 255])
    assert np.array_equal(array[height // 2, width // 2], [255, 0, 0])
    red = (array == [255, 0, 0]).all(axis=2)
    assert 0.85 < red.any(axis=0).mean() <= 1.0
    drawn = path.stat().st_mtime_ns
    TASK.load(package)
    assert path.stat().st_mtime_ns == drawn


def test_names_that_count(package: Path) -> None:
    goggles, france = TASK.load(package)
    for answer in ("Goggles.", "It is a scuba", "protection", "These: no"):
        right = float(answer != "These: no")
        assert TASK.judge(goggles, answer)[1] == right, answer
    for answer in ("France", "flag: France", "The flag of France.", "This is the flag of France"):
        assert TASK.judge(france, answer)[1] == 1.0, answer
    for answer in ("flag", "FR", "Germany", ""):
        assert TASK.judge(france, answer)[1] == 0.0, answer


def test_an_empty_answer_names_nothing() -> None:
    """Ten drawings have a keyword of marks only ("!"), which normalises to nothing."""
    item = Item("2757", "What is this?", None, ("exclamation", "!"), "emoji")
    task = TASKS["openmoji"]
    assert [task.judge(item, answer)[1] for answer in ("", "!", "it is a", "exclamation!")] == [
        0, 0, 0, 1,
    ]  # fmt: skip


def test_floor_is_the_best_constant(package: Path) -> None:
    floor = TASK.floor(TASK.load(package))
    assert floor["accuracy"] == 50.0
    assert {floor["group.flags"], floor["group.objects"]} == {0.0, 100.0}


def test_groups_have_counts_and_a_confusion_table(package: Path) -> None:
    goggles, france = TASK.load(package)
    said = [(goggles, "France"), (france, "flag of France"), (goggles, "fog")]
    judged = [Judged(item, text, *TASK.judge(item, text)) for item, text in said]
    figures = TASK.metrics(judged)
    assert (figures["group.objects"], figures["n.objects"]) == (0.0, 2)
    assert (figures["group.flags"], figures["n.flags"]) == (100.0, 1)
    assert confusion(judged) == (["flags", "objects"], [[1, 0, 0], [1, 0, 1]])


def test_half_ignores_variation_selectors() -> None:
    assert half("2764-FE0F") == half("2764") == half("02764")
    assert {half(f"{code:X}") for code in range(0x1F600, 0x1F620)} == {"dev", "report"}


def test_bare() -> None:
    assert bare("It's an Owl!") == "owl"
    assert bare("This is the flag of the Åland Islands") == "flag of åland islands"


def test_a_damaged_drawing_is_named(package: Path) -> None:
    (package / "color" / "svg" / "1F97D.svg").write_text("<svg")
    with pytest.raises(DataError, match=r"1F97D\.svg cannot be drawn"):
        TASK.load(package)
