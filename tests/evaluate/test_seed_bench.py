"""SEED-Bench on a tiny file of the published form, held to what LLaVA's script counts."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neva.errors import DataError
from neva.evaluate import TASKS, Item, Judged, read

TASK = TASKS["seed-image"]
TYPES = {"Scene Understanding": 1, "Instances Counting": 5, "Action Recognition": 10}
ROW = {
    "answer": "D", "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four",
    "data_id": "1454426_2591111986", "data_type": "image", "question_id": "101669",
    "question": "How many towels are in the image?", "question_type_id": 5,
}  # fmt: skip


def load(root: Path, *changes: dict[str, Any], types: Any = TYPES) -> list[Item]:
    told = [
        {name: value for name, value in {**ROW, **change}.items() if value is not None}
        for change in changes
    ]
    text = json.dumps({"question_type": types, "questions": told})
    (root / "SEED-Bench.json").write_text(text)
    (root / "SEED-Bench-image").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(root / "SEED-Bench-image" / "1454426_2591111986", "JPEG")
    return read(TASK, root)


def test_asks_as_llava_does(tmp_path: Path) -> None:
    (item,) = load(tmp_path, {})
    assert item.question + TASK.suffix == (
        "How many towels are in the image?\nA. One\nB. Two\nC. Three\nD. Four\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert (item.id, item.golds, item.kind) == ("101669", ("D", "Four"), "Instances Counting")


def test_leaves_out_videos_and_keeps_the_id_that_is_there_twice(tmp_path: Path) -> None:
    video = {"data_type": "video", "data_id": "x.webm", "question_type_id": 10, "question_id": "v0"}
    items = load(tmp_path, {}, video, {"question_id": 49914}, {"question_id": "49914"})
    assert [item.id for item in items] == ["101669", "49914", "49914-2"]


def counted(rows: list[dict[str, Any]], said: list[str]) -> dict[str, float]:
    """The official count: the stripped text equals the letter, by type and over all."""
    right: dict[str, list[bool]] = defaultdict(list)
    names = {number: name for name, number in TYPES.items()}
    for row, text in zip(rows, said, strict=True):
        right[names[row["question_type_id"]]].append(text.strip() == row["answer"])
    every = [one for ones in right.values() for one in ones]
    return {"accuracy": 100 * sum(every) / len(every)} | {
        f"accuracy.{name}": 100 * sum(ones) / len(ones) for name, ones in right.items()
    }


def test_counts_as_the_official_script(tmp_path: Path) -> None:
    said = ["D", "A\n", "B. Two", "d", "", "C", "(A)"]
    rows = [
        ROW | {"question_id": str(n), "question_type_id": kind, "answer": answer}
        for n, (kind, answer) in enumerate(zip([5, 1, 5, 1, 5, 5, 1], "DABDACA", strict=True))
    ]
    items = load(tmp_path, *rows)
    judged = [
        Judged(one, text, *TASK.judge(one, text)) for one, text in zip(items, said, strict=True)
    ]
    figures = TASK.metrics(judged)
    official = counted(rows, said)
    assert {name: figures[name] for name in official} == pytest.approx(official)
    assert figures["accuracy"] == pytest.approx(300 / 7)
    assert figures["unreadable"] == pytest.approx(400 / 7)
    assert TASK.floor(items)["accuracy"] == pytest.approx(300 / 7), "three of seven are A"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answer": "E"}, "question 101669: the answer 'E' is no letter"),
        ({"answer": "AB"}, "the answer 'AB' is no letter"),
        ({"answer": ["A"]}, "is no letter from A to D"),
        ({"choice_d": None}, "question 101669: no field 'choice_d'"),
        ({"question_type_id": 77}, "names no type 77"),
        ({"data_type": None}, "record 1: no field 'data_type'"),
        ({"data_id": "gone"}, "lack their picture"),
        ({"data_type": "video"}, "hold no question"),
    ],
)
def test_refuses(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load(tmp_path, change)


def test_refuses_types_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'question_type' is no object"):
        load(tmp_path, {}, types=[1])
