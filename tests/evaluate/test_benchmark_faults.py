"""Files that differ a little from the benchmark's: read as meant, or refused; no wrong score."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neva.errors import DataError
from neva.evaluate import TASKS, Item, read
from neva.evaluate.mme import PERCEPTION
from neva.evaluate.scienceqa import wording

QUESTION = {"question_id": 9, "image_id": 7, "question": "What?"}
ANNOTATION = {"question_id": 9, "answer_type": "other", "answers": [{"answer": "a"}] * 10}


def put(path: Path, told: Any, mark: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = told if isinstance(told, str) else json.dumps(told)
    path.write_text(text, encoding="utf-8-sig" if mark else "utf-8")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)


def vqa(root: Path, question: Any, *annotations: Any, mark: bool = False) -> list[Item]:
    asked, given = "v2_OpenEnded_mscoco_val2014_questions", "v2_mscoco_val2014_annotations"
    put(root / f"{asked}.json", {"questions": [question]}, mark)
    put(root / f"{given}.json", {"annotations": annotations}, mark)
    picture(root / "val2014" / "COCO_val2014_000000000007.jpg")
    return read(TASKS["vqav2"], root)


def test_vqav2_joins_ids_that_are_written_otherwise(tmp_path: Path) -> None:
    for here, there in (("9", 9), (9, "9")):
        changed = ANNOTATION | {"question_id": there}
        (item,) = vqa(tmp_path, QUESTION | {"question_id": here}, changed)
        assert (item.id, item.golds) == ("9", ("a",) * 10)


def test_vqav2_refuses_a_question_with_two_annotations(tmp_path: Path) -> None:
    other = ANNOTATION | {"answers": [{"answer": "b"}] * 10}
    with pytest.raises(DataError, match=r"annotations\.json: question 9 is annotated twice"):
        vqa(tmp_path, QUESTION, ANNOTATION, other)
    with pytest.raises(DataError, match="no annotation of question 9"):
        vqa(tmp_path, QUESTION, ANNOTATION | {"question_id": [9]})


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (item,) = vqa(tmp_path, QUESTION, ANNOTATION, mark=True)
    assert item.question == "What?"
    mme(tmp_path, "Is it?\tYes\nIs it not?\tNo\n", mark=True)
    assert read(TASKS["mme"], tmp_path)[0].question == "Is it?"


@pytest.mark.parametrize("name", ["textvqa", "textvqa-ocr"])
def test_textvqa_asks_with_a_capital_as_llavas_question_file_does(
    tmp_path: Path, name: str
) -> None:
    row = {"question_id": 1, "image_id": "ab", "answers": ["x"] * 10}
    put(tmp_path / "TextVQA_0.5.1_val.json", {"data": [row | {"question": "what is the time?"}]})
    words = {"image_id": "ab", "ocr_tokens": ["N", "u", "g0"]}
    put(tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [words]})
    (item,) = TASKS[name].load(tmp_path)
    line = "\nReference OCR token: N, u, g0" if name == "textvqa-ocr" else ""
    assert item.question == "What is the time?" + line


def test_scienceqa_has_no_double_spaces_as_llavas_question_file() -> None:
    asked = wording("Which animal? ", "The  is adapted to the snow.", ["owl", "hawk "])
    assert asked == "Context: The is adapted to the snow.\nWhich animal? \nA. owl\nB. hawk"


def pope(root: Path, *labels: Any) -> list[Item]:
    row = {"image": "x.jpg", "text": "Is there a cat?"}
    lines = [row | {"question_id": i, "label": label} for i, label in enumerate(labels)]
    for split in ("random", "popular", "adversarial"):
        put(root / f"coco_pope_{split}.json", "\n".join(map(json.dumps, lines)))
    picture(root / "val2014" / "x.jpg")
    return read(TASKS["pope"], root)


def test_pope_knows_its_answers_in_any_case(tmp_path: Path) -> None:
    items = pope(tmp_path, "Yes", "no ")
    assert [item.golds[0] for item in items[:2]] == ["yes", "no"]
    assert TASKS["pope"].judge(items[0], "Yes") == ("yes", 1.0)


@pytest.mark.parametrize("label", ["maybe", True, 1, "yes."])
def test_pope_refuses_an_answer_that_nobody_could_meet(tmp_path: Path, label: Any) -> None:
    with pytest.raises(DataError, match=r"coco_pope_random\.json, line 2: the answer is .*neither"):
        pope(tmp_path, "yes", label)


def mme(root: Path, text: str, mark: bool = False) -> None:
    for name in PERCEPTION:
        put(root / name / "1.txt", text, mark)
        picture(root / name / "1.jpg")


def test_mme_refuses_an_answer_that_nobody_could_meet(tmp_path: Path) -> None:
    mme(tmp_path, "Is it?\tYes\nIs it not?\tN\n")
    with pytest.raises(DataError, match=r"1\.txt, line 2: the answer is 'N', neither yes nor no"):
        read(TASKS["mme"], tmp_path)


def test_mme_does_not_read_what_macos_packs_beside(tmp_path: Path) -> None:
    mme(tmp_path, "Is it?\tYes\nIs it not?\tNo\n")
    (tmp_path / "count" / "._1.txt").write_bytes(b"\0\5\x16\7\xff")
    assert len(read(TASKS["mme"], tmp_path)) == 20


def test_pope_has_room_for_a_late_no_and_textvqa_for_long_text() -> None:
    assert {TASKS[name].max_tokens for name in ("pope", "textvqa", "textvqa-ocr", "vizwiz")} == {
        128
    }
    said = "In the picture I can see a busy street with many parked cars and people, and no dog."
    item = Item("1", "Is there a dog?", None, ("no",))
    cut = " ".join(said.split()[:16])
    assert [TASKS["pope"].judge(item, words)[0] for words in (said, cut)] == ["no", "yes"]


def test_pope_refuses_an_empty_split(tmp_path: Path) -> None:
    pope(tmp_path, "yes", "no")
    put(tmp_path / "coco_pope_popular.json", "\n")
    with pytest.raises(DataError, match=r"coco_pope_popular\.json holds no question"):
        read(TASKS["pope"], tmp_path)
