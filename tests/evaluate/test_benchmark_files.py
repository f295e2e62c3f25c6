"""Files that are not the benchmark's: a sentence with file and record, never a fault of ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from neva.errors import DataError
from neva.evaluate import TASKS

QUESTION = {"question_id": 9, "image_id": 7, "question": "What?"}
ANNOTATION = {"question_id": 9, "answers": [{"answer": "a"}]}
ROW = {"question_id": 1, "image_id": "ab", "question": "what?", "answers": ["acme"] * 10}
PROBLEM = {"question": "Which?", "choices": ["up", "down"], "answer": 1}
GQA = {"question": "Who?", "imageId": "n1", "answer": "man"}


def put(path: Path, told: Any) -> None:
    path.write_text(json.dumps(told))


def refuses(task: str, root: Path, *says: str) -> None:
    with pytest.raises(DataError) as caught:
        TASKS[task].load(root)
    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("question", "annotation", "says"),
    [
        ({"image_id": None}, {}, "question 9: no field 'image_id'"),
        ({"image_id": "x"}, {}, "'image_id' is 'x', which is no number"),
        ({"question": None}, {}, "question 9: no field 'question'"),
        ({}, {"answers": None}, "question 9: no field 'answers'"),
        ({}, {"answers": 5}, "'answers' is no list"),
        ({}, {"answers": [{}]}, "question 9: no field 'answer'"),
        ({}, {"answers": []}, "question 9: nobody answered"),
    ],
)
def test_vqav2(tmp_path: Path, question: Any, annotation: Any, says: str) -> None:
    put(
        tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json",
        {"questions": [mix(QUESTION, question)]},
    )
    put(
        tmp_path / "v2_mscoco_val2014_annotations.json",
        {"annotations": [mix(ANNOTATION, annotation)]},
    )
    refuses("vqav2", tmp_path, "v2_", says)


def mix(record: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The record with another value, None for none."""
    return {name: value for name, value in {**record, **change}.items() if value is not None}


@pytest.mark.parametrize("name", ["image_id", "question", "answers"])
def test_textvqa(tmp_path: Path, name: str) -> None:
    put(tmp_path / "TextVQA_0.5.1_val.json", {"data": [mix(ROW, {name: None})]})
    refuses("textvqa", tmp_path, "TextVQA_0.5.1_val.json, question 1", repr(name))


def test_words_of_another_split_are_no_words(tmp_path: Path) -> None:
    put(tmp_path / "TextVQA_0.5.1_val.json", {"data": [ROW]})
    path = tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json"
    put(path, {"data": [{"image_id": "other", "ocr_tokens": ["x"]}]})
    refuses("textvqa-ocr", tmp_path, path.name, "no record of picture ab")
    put(path, {"data": [{"image_id": "ab"}]})
    refuses("textvqa-ocr", tmp_path, f"{path.name}, record 1", "ocr_tokens")
    put(path, {"data": [{"image_id": "ab", "ocr_tokens": []}]})
    (item,) = TASKS["textvqa-ocr"].load(tmp_path)
    assert item.question == "What?\nReference OCR token: ", "a picture may be without words"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"choices": list("uvwxyz"), "answer": 5}, "6 options"),
        ({"answer": 2}, "answer 2 is the place of none"),
        ({"answer": "B"}, "answer 'B' is the place of none"),
        ({"choices": "up"}, "'choices' is no list"),
    ],
)
def test_scienceqa(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    put(tmp_path / "problems.json", {"1": {**PROBLEM, **change}})
    put(tmp_path / "pid_splits.json", {"test": ["1"]})
    refuses("scienceqa", tmp_path, "problems.json, problem 1", says)


def test_gqa(tmp_path: Path) -> None:
    put(tmp_path / "testdev_balanced_questions.json", {"11": {**GQA, "types": "verify"}})
    refuses("gqa", tmp_path, "testdev_balanced_questions.json, question 11", "'types'")


@pytest.mark.parametrize("name", ["hexcode", "annotation", "tags", "group"])
def test_openmoji(tmp_path: Path, name: str) -> None:
    row = {"hexcode": "1F600", "annotation": "grin", "tags": "", "group": "g", "skintone": ""}
    (tmp_path / "data").mkdir()
    (tmp_path / "color" / "png").mkdir(parents=True)
    put(tmp_path / "data" / "openmoji.json", [mix(row, {name: None})])
    refuses("openmoji", tmp_path, "openmoji.json", repr(name))
