"""VizWiz-VQA validation: what blind people asked about their own photographs, often unanswerable.

The folder holds val.json (of the published Annotations.zip) and val/; the test set has no public
answers. Measured as VizWiz's own evaluation does: the answer is normalised, what the ten annotators
said is taken as it stands. Before that the answer is cleaned as in LLaVA's submissions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import folder, read_json, rows, text
from neva.evaluate.normalise import normalise, normalise_text_vqa
from neva.evaluate.task import LLAVA_TOKENS, SHORT_ANSWER, Item, Judged, accuracy
from neva.evaluate.vqa_score import soft_accuracy
from neva.evaluate.vqav2 import golds_of

QUESTIONS = "val.json"
IMAGES = "val"
UNANSWERABLE = "unanswerable"
INSUFFICIENT = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."


@dataclass(frozen=True)
class VizWiz:
    """Soft accuracy, by the annotators' answer type."""

    name: str = "vizwiz"
    summary: str = "VizWiz-VQA validation; soft accuracy over ten annotators."
    headline: str = "accuracy"
    suffix: str = INSUFFICIENT + SHORT_ANSWER
    max_tokens: int = LLAVA_TOKENS

    def load(self, data: Path | None) -> list[Item]:
        """The questions, in the file's own words; a picture has one, so its name is the id."""
        root = folder(self.name, data, f"{QUESTIONS} and {IMAGES}/")
        path = root / QUESTIONS
        told = read_json(path)
        if not isinstance(told, list):
            raise DataError(f"{path} is no list of questions; this is not the benchmark's file.")
        return [self.item(root, row, f"{path}, record {at}") for at, row in enumerate(told, 1)]

    def item(self, root: Path, row: Any, where: str) -> Item:
        """One question with its ten answers."""
        name = text(row, "image", where)
        return Item(
            id=name,
            question=text(row, "question", where),
            image=root / IMAGES / name,
            golds=golds_of(
                [text(one, "answer", where) for one in rows(row, "answers", where)], where
            ),
            kind=str(row.get("answer_type", "")),
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Soft accuracy of the normalised answer against the annotators' words as they are."""
        read = normalise(normalise_text_vqa(answer))
        return read, soft_accuracy(read, item.golds)

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by answer type."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Always "unanswerable"."""
        return accuracy(
            [Judged(one, "", UNANSWERABLE, self.judge(one, UNANSWERABLE)[1]) for one in items]
        )
