"""VizWiz on a tiny file of the published form, held to what its own evaluation counts."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neva.errors import DataError
from neva.evaluate import TASKS, Item, Judged, read

TASK = TASKS["vizwiz"]
SAID = ["unanswerable"] * 4 + ["Coca Cola"] * 3 + ["soda", "soda", "a can"]
ROW = {
    "image": "VizWiz_val_00000000.jpg", "question": "Ok. What is this? I hope it is better.",
    "answers": [{"answer_confidence": "yes", "answer": said} for said in SAID],
    "answer_type": "unanswerable", "answerable": 0,
}  # fmt: skip


def load(root: Path, *changes: dict[str, Any], told: Any = None) -> list[Item]:
    rows = [ROW | change for change in changes]
    (root / "val.json").write_text(json.dumps(rows if told is None else told))
    (root / "val").mkdir(exist_ok=True)
    for row in rows:
        Image.new("RGB", (8, 8)).save(root / "val" / str(row["image"]))
    return read(TASK, root)


def test_asks_in_lmms_evals_words(tmp_path: Path) -> None:
    (item,) = load(tmp_path, {})
    assert item.question + TASK.suffix == (
        "Ok. What is this? I hope it is better.\n"
        "When the provided information is insufficient, respond with 'Unanswerable'.\n"
        "Answer the question using a single word or phrase."
    )
    assert item.image == tmp_path / "val" / "VizWiz_val_00000000.jpg"


def official(answer: str, said: list[str]) -> float:
    """VizWiz's rule for an answer that is normalised already, person for person."""
    credits = []
    for left_out in range(len(said)):
        others = [one for place, one in enumerate(said) if place != left_out]
        credits.append(min(1.0, others.count(answer) / 3))
    return sum(credits) / len(credits)


@pytest.mark.parametrize(
    ("answer", "read", "credit"),
    [
        ("Unanswerable.", "unanswerable", 1.0),
        ("The soda", "soda", 0.6),
        ("Coca Cola", "coca cola", 0.0),  # three said so, but with capitals, which are not cleaned
        ("a can", "can", 0.0),  # nor are their articles
        ("", "", 0.0),
    ],
)
def test_annotators_are_taken_as_they_stand(
    tmp_path: Path, answer: str, read: str, credit: float
) -> None:
    (item,) = load(tmp_path, {})
    assert TASK.judge(item, answer) == (read, pytest.approx(credit))
    assert official(read, SAID) == pytest.approx(credit)


def test_by_answer_type_beside_one_who_never_answers(tmp_path: Path) -> None:
    sure = {"answers": [{"answer": "7"}] * 10, "answer_type": "number", "image": "b.jpg"}
    items = load(tmp_path, {}, sure)
    judged = [Judged(item, "seven", *TASK.judge(item, "seven")) for item in items]
    figures = TASK.metrics(judged)
    assert (figures["accuracy"], figures["accuracy.number"]) == (50.0, 100.0)
    assert (figures["accuracy.unanswerable"], figures["n.number"]) == (0.0, 1.0)
    floor = TASK.floor(items)
    assert (floor["accuracy"], floor["accuracy.unanswerable"]) == (50.0, 100.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answers": []}, "record 1: nobody answered"),
        ({"answers": None}, "record 1: 'answers' is no list"),
        ({"answers": [{"answer": None}]}, "record 1: 'answer' holds null"),
        ({"question": None}, "record 1: 'question' holds null"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=f"val\\.json, {says}"):
        load(tmp_path, change)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"val\.json is no list of questions"):
        load(tmp_path, told={"data": [ROW]})
    test_set = {name: value for name, value in ROW.items() if name in ("image", "question")}
    with pytest.raises(DataError, match="record 1: no field 'answers'"):
        load(tmp_path, told=[test_set])
    with pytest.raises(DataError, match=r"two questions have the id 'VizWiz_val_00000000\.jpg'"):
        load(tmp_path, {}, {})
    (tmp_path / "val.json").write_text(json.dumps([ROW]))
    (tmp_path / "val" / "VizWiz_val_00000000.jpg").unlink()
    with pytest.raises(DataError, match="1 of 1 questions lack their picture"):
        read(TASK, tmp_path)
