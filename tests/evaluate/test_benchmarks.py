"""Readers and metrics of the published benchmarks, on tiny files of the published form."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neva.errors import DataError
from neva.evaluate import TASKS, Item, Judged, Task
from neva.evaluate.task import verify


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)


def judge(task: Task, items: list[Item], answers: list[str]) -> dict[str, float]:
    judged = [
        Judged(item, answer, *task.judge(item, answer))
        for item, answer in zip(items, answers, strict=True)
    ]
    return task.metrics(judged)


def load(task: Task, root: Path) -> list[Item]:
    items = task.load(root)
    verify(task.name, items)
    return items


def test_vqav2(tmp_path: Path) -> None:
    questions = [
        {"question_id": 9, "image_id": 7, "question": "What color?"},
        {"question_id": 8, "image_id": 7, "question": "Is it raining?"},
    ]
    annotations = [
        {"question_id": 8, "answer_type": "yes/no", "answers": [{"answer": "no"}] * 10},
        {
            "question_id": 9,
            "answer_type": "other",
            "answers": [{"answer": "blue"}] * 2 + [{"answer": "Light-blue"}] * 8,
        },
    ]
    put(tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    put(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})
    picture(tmp_path / "val2014" / "COCO_val2014_000000000007.jpg")
    task = TASKS["vqav2"]
    items = load(task, tmp_path)
    assert [item.id for item in items] == ["9", "8"]
    assert items[0].golds[0] == "Light-blue"
    figures = judge(task, items, ["Blue.", "no"])
    assert figures["accuracy.other"] == pytest.approx(60)
    assert figures["accuracy.yes/no"] == 100
    assert figures["accuracy"] == pytest.approx(80)


def test_text_vqa_with_and_without_ocr(tmp_path: Path) -> None:
    row = {"question_id": 1, "image_id": "ab", "question": "what brand?", "answers": ["acme"] * 10}
    put(tmp_path / "TextVQA_0.5.1_val.json", {"data": [row]})
    words = {"image_id": "ab", "ocr_tokens": ["ACME", "42"]}
    put(tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [words]})
    picture(tmp_path / "train_images" / "ab.jpg")
    plain, ocr = TASKS["textvqa"], TASKS["textvqa-ocr"]
    assert load(plain, tmp_path)[0].question == "What brand?"
    assert load(ocr, tmp_path)[0].question == "What brand?\nReference OCR token: ACME, 42"
    assert judge(plain, load(plain, tmp_path), ["Acme,"]) == {"accuracy": 100.0}


def test_gqa(tmp_path: Path) -> None:
    rows = {
        "11": {"question": "Who?", "imageId": "n1", "answer": "man"},
        "12": {
            "question": "Red?",
            "imageId": "n1",
            "answer": "yes",
            "types": {"structural": "verify"},
        },
    }
    put(tmp_path / "testdev_balanced_questions.json", rows)
    picture(tmp_path / "images" / "n1.jpg")
    task = TASKS["gqa"]
    figures = judge(task, load(task, tmp_path), ["Man.", "no"])
    assert figures == {"accuracy": 50.0, "accuracy.verify": 0.0, "n.verify": 1.0}


def pope(tmp_path: Path) -> list[Item]:
    for split in ("random", "popular", "adversarial"):
        lines = [
            {"question_id": i, "image": "x.jpg", "text": "Is there a cat?", "label": label}
            for i, label in enumerate(["yes", "yes", "no", "no"])
        ]
        put(tmp_path / f"coco_pope_{split}.json", "\n".join(map(json.dumps, lines)))
    picture(tmp_path / "val2014" / "x.jpg")
    return load(TASKS["pope"], tmp_path)


def test_pope(tmp_path: Path) -> None:
    items = pope(tmp_path)
    assert len(items) == 12
    perfect = ["Yes", "Yes, it is.", "No", "There is not."]
    half = ["Yes.", "no", "Yes", "No, it is a dog. Yes"]
    nothing = ["No"] * 4
    figures = judge(TASKS["pope"], items, perfect + half + nothing)
    assert figures["f1.random"] == figures["accuracy.random"] == 100
    assert figures["precision.popular"] == figures["recall.popular"] == figures["f1.popular"] == 50
    assert figures["f1.adversarial"] == figures["precision.adversarial"] == 0
    assert figures["yes_ratio.adversarial"] == 0
    assert figures["f1"] == 50
    assert figures["accuracy"] == pytest.approx((100 + 50 + 50) / 3)


def test_pope_reads_an_answer_without_the_white_space_around_it(tmp_path: Path) -> None:
    """The templates that end a turn with a line break leave one behind the answer."""
    task, item = TASKS["pope"], pope(tmp_path)[2]
    reads = [task.judge(item, answer)[0] for answer in ("No\n", "\nno", " not\n", "Yes\n", "None")]
    assert reads == ["no", "no", "no", "yes", "yes"]


def test_pope_floor_is_always_yes(tmp_path: Path) -> None:
    floor = TASKS["pope"].floor(pope(tmp_path))
    assert floor["yes_ratio"] == 100
    assert floor["f1"] == pytest.approx(200 / 3)


def test_science_qa(tmp_path: Path) -> None:
    problems = {
        "1": {"question": "Which?", "choices": ["up", "down"], "answer": 1, "hint": "Look.",
              "image": "image.png"},
        "2": {"question": "Why?", "choices": ["a", "b", "c"], "answer": 0, "hint": "",
              "image": None},
    }  # fmt: skip
    put(tmp_path / "problems.json", problems)
    put(tmp_path / "pid_splits.json", {"test": ["1", "2"], "train": ["3"]})
    picture(tmp_path / "images" / "test" / "1" / "image.png")
    task = TASKS["scienceqa"]
    items = load(task, tmp_path)
    assert items[0].question == "Context: Look.\nWhich?\nA. up\nB. down"
    assert items[1].image is None
    reads = ["B", "B. down", "The answer is B.", "The answer is B because", "D", "I think B", " B "]
    assert [task.judge(items[0], read)[0] for read in reads] == [
        "B", "B", "B", "B", "unreadable", "unreadable", "B",
    ]  # fmt: skip
    figures = judge(task, items, ["B", "hm"])
    assert figures["accuracy.image"] == 100
    assert figures["accuracy.text"] == 0
    assert figures["unreadable"] == 50


@pytest.mark.parametrize("name", [name for name in TASKS if name != "easy-vqa"])
def test_says_which_files_it_needs(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data DIR"):
        TASKS[name].load(None)
    with pytest.raises(DataError, match=r"--data|does not exist"):
        verify(name, TASKS[name].load(tmp_path))


def test_names_the_broken_line(tmp_path: Path) -> None:
    pope(tmp_path)
    path = tmp_path / "coco_pope_popular.json"
    path.write_text(path.read_text().replace('"label": "no"}', '"label": ', 1))
    with pytest.raises(DataError, match=r"coco_pope_popular\.json, line 3: broken JSON"):
        TASKS["pope"].load(tmp_path)


def test_names_the_missing_picture(tmp_path: Path) -> None:
    items = pope(tmp_path)
    (tmp_path / "val2014" / "x.jpg").unlink()
    with pytest.raises(DataError, match=r"12 of 12 questions lack their picture.*x\.jpg"):
        verify("pope", items)


def test_names_the_question_without_annotation(tmp_path: Path) -> None:
    question = {"question_id": 9, "image_id": 7, "question": "What?"}
    put(tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": [question]})
    put(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": []})
    with pytest.raises(DataError, match="no annotation of question 9"):
        TASKS["vqav2"].load(tmp_path)
