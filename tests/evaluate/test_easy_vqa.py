"""easy-VQA's real test split, and the question-only floor."""

import pytest

from neva.evaluate import TASKS, Judged
from neva.evaluate.easy_vqa import kind_of, majorities
from neva.evaluate.task import Item, verify

TASK = TASKS["easy-vqa"]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return TASK.load(None)


def test_reads_the_whole_split(items: list[Item]) -> None:
    assert len(items) == 9673
    assert len({item.image for item in items}) == 1000
    assert len({item.golds for item in items}) == 13
    assert (items[0].question, items[0].golds) == ("what is the red shape?", ("triangle",))
    verify("easy-vqa", items)


def test_floor_is_the_question_only_majority(items: list[Item]) -> None:
    floor = TASK.floor(items)
    assert round(floor["accuracy"], 1) == 66.9
    assert round(floor["accuracy.yes_no"], 1) == 82.5
    assert round(floor["accuracy.shape"], 1) == 34.3
    assert round(floor["accuracy.color"], 1) == 12.0
    assert floor["n.yes_no"] + floor["n.shape"] + floor["n.color"] == 9673


def test_only_the_whole_word_counts(items: list[Item]) -> None:
    item = items[0]
    assert TASK.judge(item, "Triangle.") == ("triangle", 1.0)
    assert TASK.judge(item, "a triangle\n")[1] == 1.0
    assert TASK.judge(item, "It is a triangle")[1] == 0.0
    assert TASK.judge(item, "circle")[1] == 0.0
    assert TASK.judge(item, "")[1] == 0.0


def test_figures_by_kind(items: list[Item]) -> None:
    right = [Judged(item, "", "", 1.0) for item in items if item.kind == "shape"]
    wrong = [Judged(item, "", "", 0.0) for item in items if item.kind == "color"]
    figures = TASK.metrics(right + wrong)
    assert figures["accuracy.shape"] == 100.0
    assert figures["accuracy.color"] == 0.0
    assert figures["accuracy"] == 100 * len(right) / (len(right) + len(wrong))


def test_majority_breaks_ties_by_name() -> None:
    rows = [("q", "b", 0), ("q", "a", 1), ("r", "c", 2), ("r", "c", 3), ("r", "a", 4)]
    assert majorities(rows) == {"q": "a", "r": "c"}


def test_kinds() -> None:
    assert [kind_of(answer) for answer in ("yes", "circle", "teal")] == ["yes_no", "shape", "color"]
