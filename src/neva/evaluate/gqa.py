"""GQA testdev-balanced: 12,578 questions about real scenes, exact match with one true answer.

The folder holds testdev_balanced_questions.json and images/ (images/ID.jpg).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import field, folder, read_json, text
from neva.evaluate.task import SHORT_ANSWER, Item, Judged, accuracy

QUESTIONS = "testdev_balanced_questions.json"


@dataclass(frozen=True)
class GQA:
    """Exact match of the answer without final full stops, in lower case, as LLaVA submits it."""

    name: str = "gqa"
    summary: str = "GQA testdev-balanced; exact match in lower case."
    headline: str = "accuracy"
    suffix: str = SHORT_ANSWER
    max_tokens: int = 16

    def load(self, data: Path | None) -> list[Item]:
        """The questions; kinds are GQA's structural types where the file has them."""
        root = folder(self.name, data, f"{QUESTIONS} and images/")
        path = root / QUESTIONS
        rows = read_json(path)
        if not isinstance(rows, dict):
            raise DataError(f"{path}: must map question ids to questions.")
        return [
            Item(
                id=str(key),
                question=text(row, "question", f"{path}, question {key}"),
                image=root / "images" / f"{field(row, 'imageId', f'{path}, question {key}')}.jpg",
                golds=(text(row, "answer", f"{path}, question {key}"),),
                kind=structural(row, f"{path}, question {key}"),
            )
            for key, row in rows.items()
        ]

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Exact match."""
        read = answer.strip().rstrip(".").lower()
        return read, float(read == item.golds[0].lower())

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by structural type."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """None: the question-only guess would need the train split."""
        return {}


def structural(row: dict[str, Any], where: str) -> str:
    """GQA's structural type of a question, "" where the file has no types."""
    types = row.get("types") or {}
    if not isinstance(types, dict):
        raise DataError(f"{where}: 'types' is no object; this is not the benchmark's file.")
    return str(types.get("structural", ""))
