"""VQAv2 and TextVQA: ten annotators a question, soft accuracy.

VQAv2's folder holds v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json
and val2014/ (test-dev has no public answers). The official evaluation (VQAEval) cleans answer and
annotations only where the annotators differ, and LLaVA's published scores are of answers that its
submission had cleaned before in TextVQA's way; so it is done here. TextVQA's holds
TextVQA_0.5.1_val.json and train_images/; its `ocr` variant also
TextVQA_Rosetta_OCR_v0.2_val.json, whose words are put before the suffix, as LLaVA does. The two
variants differ by about 12 points with LLaVA-1.5-7B, so they are two tasks, and neither score can
be taken for the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import field, folder, number, read_json, rows, text, texts
from neva.evaluate.normalise import normalise, normalise_text_vqa
from neva.evaluate.task import LLAVA_TOKENS, SHORT_ANSWER, Item, Judged, accuracy
from neva.evaluate.vqa_score import soft_accuracy

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
TEXT_VQA = "TextVQA_0.5.1_val.json"
OCR = "TextVQA_Rosetta_OCR_v0.2_val.json"


def flat(text: str) -> str:
    """On one line, without white space around it: all that VQAEval does to answers that agree."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def golds_of(answers: Sequence[str], where: str) -> tuple[str, ...]:
    """The annotators' answers, the commonest in front, because reports show the first."""
    if not answers:
        raise DataError(f"{where}: nobody answered; this is not the benchmark's file.")
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
        path = root / ANNOTATIONS
        by_id: dict[str, Any] = {}
        for row in rows(read_json(path), "annotations", str(path)):
            key = str(field(row, "question_id", str(path)))
            if key in by_id:
                raise DataError(f"{path}: question {key} is annotated twice; download it again.")
            by_id[key] = row
        path = root / QUESTIONS
        return [
            self.item(root, row, by_id) for row in rows(read_json(path), "questions", str(path))
        ]

    def item(self, root: Path, row: dict[str, Any], annotations: dict[str, Any]) -> Item:
        """One question with its ten answers."""
        key = str(field(row, "question_id", str(root / QUESTIONS)))
        if key not in annotations:
            raise DataError(f"{root / ANNOTATIONS}: no annotation of question {key}.")
        given = annotations[key]
        asked, where = (
            f"{root / QUESTIONS}, question {key}",
            f"{root / ANNOTATIONS}, question {key}",
        )
        answers = [text(one, "answer", where) for one in rows(given, "answers", where)]
        return Item(
            id=key,
            question=text(row, "question", asked),
            image=root / "val2014" / f"COCO_val2014_{number(row, 'image_id', asked):012d}.jpg",
            golds=golds_of(answers, where),
            kind=str(given.get("answer_type", "")),
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Soft accuracy as VQAEval has it: ten who agree to the letter are not cleaned."""
        read, golds = normalise_text_vqa(answer), [flat(gold) for gold in item.golds]
        if len(set(golds)) > 1:
            read, golds = normalise(read), [normalise(gold) for gold in golds]
        return read, soft_accuracy(read, golds)

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
    max_tokens: int = LLAVA_TOKENS
    ocr: bool = False

    def load(self, data: Path | None) -> list[Item]:
        """The questions, with LLaVA's line of OCR words where the variant wants it."""
        also = f", {OCR}" if self.ocr else ""
        root = folder(self.name, data, f"{TEXT_VQA}{also} and train_images/")
        words = self.ocr_words(root) if self.ocr else {}
        path = root / TEXT_VQA
        return [
            self.item(root, row, self.ocr_line(root, words, row, f"{path}, record {place}"))
            for place, row in enumerate(rows(read_json(path), "data", str(path)), 1)
        ]

    def item(self, root: Path, row: dict[str, Any], line: str) -> Item:
        """One question with its ten answers and its line of words."""
        key = field(row, "question_id", str(root / TEXT_VQA))
        where = f"{root / TEXT_VQA}, question {key}"
        return Item(
            id=str(key),
            question=text(row, "question", where).capitalize() + line,  # as LLaVA asks
            image=root / "train_images" / f"{field(row, 'image_id', where)}.jpg",
            golds=golds_of(texts(row, "answers", where), where),
        )

    def ocr_words(self, root: Path) -> dict[str, list[str]]:
        """image_id to the words read in it."""
        path = root / OCR
        return {
            str(field(row, "image_id", f"{path}, record {place}")): [
                str(word) for word in rows(row, "ocr_tokens", f"{path}, record {place}")
            ]
            for place, row in enumerate(rows(read_json(path), "data", str(path)), 1)
        }

    def ocr_line(
        self, root: Path, words: dict[str, list[str]], row: dict[str, Any], where: str
    ) -> str:
        """The line that LLaVA puts before the suffix; a picture may lack words, not its record."""
        if not self.ocr:
            return ""
        picture = str(field(row, "image_id", where))
        if picture not in words:
            raise DataError(
                f"{root / OCR}: no record of picture {picture}; a score without its words would "
                f"not be {self.name}'s. Take the OCR file of the same split."
            )
        return "\nReference OCR token: " + ", ".join(words[picture])

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Soft accuracy, all cleaned in TextVQA's way."""
        read = normalise_text_vqa(answer)
        return read, soft_accuracy(read, [normalise_text_vqa(gold) for gold in item.golds])

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """None: the question-only guess would need the train split."""
        return {}
