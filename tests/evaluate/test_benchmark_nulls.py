"""What is no text in a benchmark's file is refused: as the word None it could even be right."""

import json
from pathlib import Path
from typing import Any

import pytest

from neva.errors import DataError
from neva.evaluate import TASKS
from neva.evaluate.normalise import normalise

VQA = {"question_id": 9, "image_id": 7, "question": "How many?"}
GIVEN = {"question_id": 9, "answer_type": "number", "answers": [{"answer": "2"}] * 10}
TEXT = {"question_id": 1, "image_id": "ab", "question": "q", "answers": ["x"] * 10}
GQA = {"question": "q", "imageId": "n1", "answer": "yes"}
POPE = {"question_id": 1, "image": "x.jpg", "text": "t", "label": "yes"}
SQA = {"question": "q", "choices": ["a", "b"], "answer": 0}
SEED = {
    "data_type": "image", "question_id": "1", "question": "q", "choice_a": "a", "choice_b": "b",
    "choice_c": "c", "choice_d": "d", "answer": "A", "question_type_id": 1, "data_id": "im",
}  # fmt: skip


def put(root: Path, task: str, row: dict[str, Any]) -> None:
    """The task's files with this row; of VQAv2's two files the one that it is of."""
    of_annotations = "answers" in row
    files: dict[str, dict[str, Any]] = {
        "vqav2": {
            "v2_OpenEnded_mscoco_val2014_questions.json": {
                "questions": [VQA if of_annotations else row]
            },
            "v2_mscoco_val2014_annotations.json": {
                "annotations": [row if of_annotations else GIVEN]
            },
        },
        "textvqa": {"TextVQA_0.5.1_val.json": {"data": [row]}},
        "gqa": {"testdev_balanced_questions.json": {"1": row}},
        "pope": {f"coco_pope_{name}.json": row for name in ("random", "popular", "adversarial")},
        "scienceqa": {"problems.json": {"1": row}, "pid_splits.json": {"test": ["1"]}},
        "seed-image": {"SEED-Bench.json": {"question_type": {"Scene": 1}, "questions": [row]}},
    }
    for name, told in files[task].items():
        (root / name).write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("task", "row", "field", "spoilt"),
    [
        ("vqav2", VQA, "question", None),
        ("vqav2", GIVEN, "answers", [{"answer": None}] * 10),
        ("textvqa", TEXT, "question", None),
        ("textvqa", TEXT, "answers", ["x", None]),
        ("textvqa", TEXT, "answers", ["x", float("nan")]),
        ("gqa", GQA, "question", {}),
        ("gqa", GQA, "answer", None),
        ("pope", POPE, "text", None),
        ("scienceqa", SQA, "question", None),
        ("scienceqa", SQA, "choices", ["a", None]),
        ("seed-image", SEED, "question", None),
        ("seed-image", SEED, "choice_c", None),
    ],
)
def test_no_text_is_no_word(
    tmp_path: Path, task: str, row: dict[str, Any], field: str, spoilt: Any
) -> None:
    put(tmp_path, task, row)
    assert TASKS[task].load(tmp_path)
    put(tmp_path, task, row | {field: spoilt})
    with pytest.raises(DataError, match=r"json.*(null|NaN|dict) instead of text; download"):
        TASKS[task].load(tmp_path)


def test_why_and_that_numbers_are_words(tmp_path: Path) -> None:
    assert normalise(str(None)) == "0"
    put(tmp_path, "scienceqa", SQA | {"choices": [3, 0.5]})
    assert TASKS["scienceqa"].load(tmp_path)[0].question.endswith("A. 3\nB. 0.5")
