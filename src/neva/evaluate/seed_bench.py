"""SEED-Bench's questions about single images: four options each, in nine kinds.

The folder holds SEED-Bench.json and SEED-Bench-image/ (files without endings), as published. Its
questions about videos are left out, as in the column SEED-I of the literature. Asked and judged as
LLaVA-1.5's scripts do: the question, one option a line, and the answer must be the letter alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import field, folder, read_json, rows, text
from neva.evaluate.task import OPTION_LETTER, Item, Judged, accuracy, percent

QUESTIONS = "SEED-Bench.json"
IMAGES = "SEED-Bench-image"
LETTERS = "ABCD"


@dataclass(frozen=True)
class SeedBench:
    """Accuracy of the letter, by the file's question types."""

    name: str = "seed-image"
    summary: str = "SEED-Bench, questions about images; accuracy of the option's letter."
    headline: str = "accuracy"
    suffix: str = OPTION_LETTER
    max_tokens: int = 16

    def load(self, data: Path | None) -> list[Item]:
        """The questions whose data_type is "image". The published file has one id twice."""
        root = folder(self.name, data, f"{QUESTIONS} and {IMAGES}/")
        path = root / QUESTIONS
        told = read_json(path)
        kinds = kinds_of(field(told, "question_type", str(path)), path)
        seen: Counter[str] = Counter()
        items = []
        for place, row in enumerate(rows(told, "questions", str(path)), 1):
            where = f"{path}, record {place}"
            if field(row, "data_type", where) != "image":
                continue
            key = str(field(row, "question_id", where))
            seen[key] += 1
            again = f"-{seen[key]}" if seen[key] > 1 else ""
            items.append(self.item(root, row, key + again, kinds))
        return items

    def item(self, root: Path, row: Mapping[str, Any], key: str, kinds: Mapping[str, str]) -> Item:
        """One question; its gold is the letter, then the option's text."""
        where = f"{root / QUESTIONS}, question {key}"
        choices = [text(row, f"choice_{letter.lower()}", where) for letter in LETTERS]
        right = field(row, "answer", where)
        if right not in tuple(LETTERS):
            raise DataError(f"{where}: the answer {right!r} is no letter from A to D.")
        kind = str(field(row, "question_type_id", where))
        if kind not in kinds:
            raise DataError(f"{where}: 'question_type' names no type {kind}.")
        options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
        return Item(
            id=key,
            question="\n".join([text(row, "question", where), *options]),
            image=root / IMAGES / str(field(row, "data_id", where)),
            golds=(right, choices[LETTERS.index(right)]),
            kind=kinds[kind],
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """The letter alone, as LLaVA's script compares it."""
        said = answer.strip()
        read = said if said in tuple(LETTERS) else "unreadable"
        return read, float(read == item.golds[0])

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by type, and how many answers were not a letter alone."""
        unreadable = [float(one.read == "unreadable") for one in judged]
        return accuracy(judged) | {"unreadable": percent(unreadable)}

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Always "A"."""
        return accuracy([Judged(item, "A", "A", float(item.golds[0] == "A")) for item in items])


def kinds_of(told: Any, path: Path) -> dict[str, str]:
    """Type's id to its name, from the file's table of names to ids."""
    if not isinstance(told, dict):
        raise DataError(f"{path}: 'question_type' is no object; this is not the benchmark's file.")
    return {str(number): str(name) for name, number in told.items()}
