"""ScienceQA's test split: school science with two to five options, some with a picture.

The folder holds problems.json, pid_splits.json and images/test/PID/image.png, as published. The
question is asked as LLaVA-1.5 asks it: the hint as context, the question, one option a line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import field, folder, read_json, rows, text, texts
from neva.evaluate.task import OPTION_LETTER, Item, Judged, accuracy, percent

LETTERS = "ABCDE"
ANSWER_IS = re.compile(r"The answer is ([A-Z]).")  # LLaVA's, whose last dot is any character


@dataclass(frozen=True)
class ScienceQA:
    """Accuracy over all questions and over those with a picture (the literature's SQA-I)."""

    name: str = "scienceqa"
    summary: str = "ScienceQA test; accuracy of the option's letter."
    headline: str = "accuracy"
    suffix: str = OPTION_LETTER
    max_tokens: int = 32

    def load(self, data: Path | None) -> list[Item]:
        """The test split."""
        root = folder(self.name, data, "problems.json, pid_splits.json and images/test/")
        problems = read_json(root / "problems.json")
        path = root / "pid_splits.json"
        return [
            self.item(root, str(pid), field(problems, str(pid), str(root / "problems.json")))
            for pid in rows(read_json(path), "test", str(path))
        ]

    def item(self, root: Path, pid: str, problem: Mapping[str, Any]) -> Item:
        """One problem; its gold is the letter, then the option's text."""
        where = f"{root / 'problems.json'}, problem {pid}"
        choices = texts(problem, "choices", where)
        right = field(problem, "answer", where)
        if len(choices) > len(LETTERS):
            raise DataError(f"{where}: {len(choices)} options, but ScienceQA has five at most.")
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise DataError(f"{where}: answer {right!r} is the place of none of its options.")
        picture = problem.get("image")
        return Item(
            id=pid,
            question=wording(text(problem, "question", where), problem.get("hint"), choices),
            image=root / "images" / "test" / pid / str(picture) if picture else None,
            golds=(LETTERS[right], choices[right]),
            kind="image" if picture else "text",
            facts={"choices": len(choices)},
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """The letter that LLaVA's script reads: alone, before ". ", or after "The answer is"."""
        letter = read_letter(answer.strip())
        allowed = LETTERS[: item.facts["choices"]]
        read = letter if letter and letter in allowed else "unreadable"
        return read, float(read == item.golds[0])

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall, with and without a picture, and how many answers had no letter."""
        unreadable = [float(one.read == "unreadable") for one in judged]
        return accuracy(judged) | {"unreadable": percent(unreadable)}

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Always "A"."""
        guesses = [Judged(item, "A", "A", float(item.golds[0] == "A")) for item in items]
        return accuracy(guesses)


def wording(question: str, hint: str | None, choices: Sequence[str]) -> str:
    """Context, question and lettered options; double spaces are single ones in LLaVA's file."""
    lines = [f"Context: {hint}"] if hint else []
    lines.append(question)
    lines += [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join(lines).replace("  ", " ").strip()


def read_letter(answer: str) -> str | None:
    """The option's letter in an answer, or None."""
    if len(answer) == 1 and answer in LETTERS:
        return answer
    if len(answer) >= 3 and answer[0] in LETTERS and answer[1:3] == ". ":
        return answer[0]
    found = ANSWER_IS.findall(answer)
    return str(found[0]) if len(found) == 1 else None
