"""Confusion tables: counts are of the answers in the results, and of no other questions."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from zoo.confusion_plot import draw
from zoo.judged import Result, join
from zoo.tally import OTHER, by_kind, easy_forms, forms, matrix

from neva.errors import DataError
from neva.evaluate import TASKS, Item
from zoo import confusions


def record(task: str, answers: list[tuple[Item, str]]) -> dict[str, Any]:
    """A result as `neva eval --json` writes it, of these answers."""
    rows = []
    for item, answer in answers:
        read, credit = TASKS[task].judge(item, answer)
        rows.append(
            {
                "id": item.id,
                "question": item.question,
                "kind": item.kind,
                "gold": item.golds[0],
                "answer": answer,
                "read": read,
                "credit": credit,
            }
        )
    asked = {"sha256": "ab" * 32, "baseline": "none", "limit": None}
    return {"task": task, "asked": asked, "of": len(rows), "questions": len(rows),
            "answers": rows}  # fmt: skip


def result(task: str, answers: list[tuple[Item, str]]) -> Result:
    return join(record(task, answers), [item for item, _ in answers], Path("r.json"))


def easy(number: int, question: str, gold: str, kind: str) -> Item:
    return Item(f"test-{number}", question, None, (gold,), kind)


def drawing(code: str, group: str, *names: str) -> Item:
    return Item(code, "What is this?", None, names, "emoji", {"group": group, "half": "dev"})


def scene(number: int, kind: str, form: str, gold: str) -> Item:
    return Item(f"00{number}-0", "?", None, (gold,), kind, {"form": form})


EASY = result("easy-vqa", [
    (easy(0, "what shape is in the image?", "circle", "shape"), "circle"),
    (easy(1, "what shape is in the image?", "circle", "shape"), "triangle"),
    (easy(2, "what shape is in the image?", "triangle", "shape"), "star"),
    (easy(3, "what color is the shape?", "red", "color"), "red"),
    (easy(4, "what color is the shape?", "blue", "color"), "teal"),
    (easy(5, "is there a circle?", "yes", "yes_no"), "yes"),
    (easy(6, "is there not a red shape?", "yes", "yes_no"), "no"),
])  # fmt: skip
MOJI = result("openmoji", [
    (drawing("1", "food", "pear", "fruit"), "pear"),
    (drawing("2", "food", "bread"), "pink circle"),
    (drawing("3", "animals", "cat"), "pink circle"),
])  # fmt: skip
SCENES = result("scenes", [
    (scene(0, "count", "count all", "1"), "1"),
    (scene(1, "count", "count all", "2"), "1"),
    (scene(2, "count", "count of one", "10"), "two"),
    (scene(3, "color", "color", "red"), "red"),
    (scene(4, "what", "what", "pear"), "cat"),
])  # fmt: skip


def test_matrix_counts_true_by_said() -> None:
    found = matrix([("a", "a"), ("a", "b"), ("b", "x"), ("b", "x"), ("b", "y")], extra=1)
    assert found.truths == ("a", "b")
    assert found.said == ("a", "b", "(x)", OTHER)
    assert found.counts == ((1, 1, 0, 0), (0, 0, 2, 1))
    assert (found.right, found.total) == (1, 5)


def test_numbers_stand_in_their_order() -> None:
    assert matrix([("10", "2"), ("2", "2"), ("a", "a")]).truths == ("2", "10", "a")
    assert by_kind(SCENES.judged, "count").truths == ("1", "2", "10")
    assert by_kind(SCENES.judged, "count").counts[2][1] == 1  # "two" is 2


def test_yes_or_no_is_told_by_what_is_asked() -> None:
    found = {one.name: one for one in easy_forms(EASY.judged)}
    assert found["a shape; true: yes"].percent == 100
    assert found["a colour, negated; true: yes"].answers == (("no", 1),)
    assert sum(one.asked for one in found.values()) == 2


def test_forms_of_scenes() -> None:
    first = forms(SCENES.judged)[1]
    assert (first.name, first.asked, first.right) == ("count all", 2, 1.0)
    assert first.answers == (("1", 2),)


def test_page_has_every_count() -> None:
    text = confusions.page([MOJI, EASY, SCENES], "plot.png")
    assert "| food | 2 | 50.0 | 50.0 |" in text
    assert "| animals | 1 | · | 100.0 |" in text
    assert "| pink circle | 2 | 2 | animals, food | bread, cat |" in text
    assert "| circle | **1** | 1 | · |" in text
    assert "| count all | 2 | 50.0 | 50.0 | 1 2 |" in text
    assert "![" in text and "(plot.png)" in text
    assert "`abababababababab`" in text


def test_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert draw([MOJI, EASY, SCENES], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 1000
        assert image.convert("RGB").getextrema() != ((255, 255),) * 3
    assert not draw([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_answers_to_other_questions_are_refused() -> None:
    items = [MOJI.judged[0].item]
    with pytest.raises(DataError, match="question '2' is not in these files of openmoji"):
        join(MOJI.record, items, Path("r.json"))
    other = [drawing(one.item.id, "food", "renamed") for one in MOJI.judged]
    with pytest.raises(DataError, match="question '1' is not in these files"):
        join(MOJI.record, other, Path("r.json"))


def test_baselines_and_other_files_are_left_out(tmp_path: Path) -> None:
    blind = dict(MOJI.record) | {"asked": {"baseline": "text"}}
    for name, content in (("a", MOJI.record), ("b", blind), ("c", {"asked": {}}), ("d", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert confusions.chosen(sorted(tmp_path.glob("*.json"))) == [tmp_path / "a.json"]
