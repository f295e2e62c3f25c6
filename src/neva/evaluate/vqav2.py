"""VQAv2 and TextVQA: ten annotators a question, soft accuracy.

VQAv2's folder holds v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json
and val2014/ (test-dev has no public answers). TextVQA's holds TextVQA_0.5.1_val.json and
train_images/; its `ocr` variant also TextVQA_Rosetta_OCR_v0.2_val.json, whose words are put before
the suffix, as LLaVA does. The two variants differ by about 12 points with LLaVA-1.5-7B, so they
are two tasks, and neither score can be taken for the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import field, folder, read_json
from neva.evaluate.normalise import normalise, normalise_text_vqa
from neva.evaluate.task import SHORT_ANSWER, Item, Judged, accuracy
from neva.evaluate.vqa_score import soft_accuracy

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
TEXT_VQA = "TextVQA_0.5.1_val.json"
OCR = "TextVQA_Rosetta_OCR_v0.2_val.json"


def judge_soft(item: Item, answer: str, clean: Callable[[str], str]) -> tuple[str, float]:
    """Soft accuracy of an answer against the item's annotators, all cleaned alike."""
    read = clean(answer)
    return read, soft_accuracy(read, [clean(gold) for gold in item.golds])


def commonest_first(answers: Sequence[str]) -> tuple[str, ...]:
    """The annotators' answers, the commonest in front, because reports show the first."""
    return tuple(sorted(answers, key=lambda answer: (-answers.count(answer), answer)))


@dataclass(frozen=True)
class VQAv2:
    """VQAv2 validation, by the annotators' answer type."""

    name: str = "vqav2"
    summary: str = "VQAv2 validation; soft accuracy over ten annotators."
    headline: str = "accuracy"
    suffix: str = SHORT_ANSWER
    max_tokens: int = 16

    def load(self, data: Path | None) -> list[Item]:
        """Questions joined with their annotations by question_id."""
        root = folder(self.name, data, f"{QUESTIONS}, {ANNOTATIONS} and val2014/")
        rows = field(read_json(root / ANNOTATIONS), "annotations", str(root / ANNOTATIONS))
        by_id = {field(row, "question_id", str(root / ANNOTATIONS)): row for row in rows}
        path = root / QUESTIONS
        return [
            self.item(root, row, by_id) for row in field(read_json(path), "questions", str(path))
        ]

    def item(self, root: Path, row: dict[str, Any], annotations: dict[Any, Any]) -> Item:
        """One question with its ten answers."""
        key = field(row, "question_id", str(root / QUESTIONS))
        if key not in annotations:
            raise DataError(f"{root / ANNOTATIONS}: no annotation of question {key}.")
        given = annotations[key]
        answers = [str(one["answer"]) for one in field(given, "answers", str(root / ANNOTATIONS))]
        return Item(
            id=str(key),
            question=str(row["question"]),
            image=root / "val2014" / f"COCO_val2014_{int(row['image_id']):012d}.jpg",
            golds=commonest_first(answers),
            kind=str(given.get("answer_type", "")),
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Soft accuracy."""
        return judge_soft(item, answer, normalise)

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by answer type."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """None: the question-only guess would need the train split."""
        return {}


@dataclass(frozen=True)
class TextVQA:
    """TextVQA validation, without or with the words that OCR read."""

    name: str = "textvqa"
    summary: str = "TextVQA validation without OCR words; soft accuracy over ten annotators."
    headline: str = "accuracy"
    suffix: str = SHORT_ANSWER
    max_tokens: int = 16
    ocr: bool = False

    def load(self, data: Path | None) -> list[Item]:
        """The questions, with LLaVA's line of OCR words where the variant wants it."""
        also = f", {OCR}" if self.ocr else ""
        root = folder(self.name, data, f"{TEXT_VQA}{also} and train_images/")
        words = self.ocr_words(root) if self.ocr else {}
        path = root / TEXT_VQA
        return [
            Item(
                id=str(field(row, "question_id", str(path))),
                question=str(row["question"]) + self.ocr_line(words, row),
                image=root / "train_images" / f"{row['image_id']}.jpg",
                golds=commonest_first([str(a) for a in field(row, "answers", str(path))]),
            )
            for row in field(read_json(path), "data", str(path))
        ]

    def ocr_words(self, root: Path) -> dict[str, list[str]]:
        """image_id to the words read in it."""
        rows = field(read_json(root / OCR), "data", str(root / OCR))
        return {str(row["image_id"]): [str(word) for word in row["ocr_tokens"]] for row in rows}

    def ocr_line(self, words: dict[str, list[str]], row: dict[str, Any]) -> str:
        """The line that LLaVA puts before the suffix."""
        if not self.ocr:
            return ""
        return "\nReference OCR token: " + ", ".join(words.get(str(row["image_id"]), []))

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Soft accuracy, with TextVQA's way of cleaning."""
        return judge_soft(item, answer, normalise_text_vqa)

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """None: the question-only guess would need the train split."""
        return {}
