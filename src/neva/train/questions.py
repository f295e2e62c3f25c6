"""The probe's questions: a small JSON list that a run is asked while it learns. Torch-free.

[{"image": "a.png", "question": "Which colour is it?", "answer": "red"}, ...]

`image` may be a list, or left out; `answer` may be a list of what is accepted, or left out where an
answer is only to be looked at.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError

_EDGES = re.compile(r"^[\s\"'.,!]+|[\s\"'.,!]+$")
_KEYS = frozenset({"image", "question", "answer"})


@dataclass(frozen=True)
class Question:
    """One question. `golds` are the accepted answers; none: it is not judged."""

    text: str
    images: tuple[str, ...] = ()
    golds: tuple[str, ...] = ()

    def judge(self, answer: str) -> bool | None:
        """Whether an answer is one of `golds`; None where there are none."""
        if not self.golds:
            return None
        return plain(answer) in {plain(gold) for gold in self.golds}


def plain(answer: str) -> str:
    """An answer as it is compared: no capitals, no marks or spaces at its ends, single spaces."""
    return " ".join(_EDGES.sub("", answer.casefold()).split())


def read_questions(path: Path) -> list[Question]:
    """The questions of a file; DataError names the file, the question's number and the remedy."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give --probe a JSON file of questions.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}; mend the file.") from None
    if not isinstance(raw, list) or not raw:
        raise DataError(f"{path}: a probe is a JSON list of questions, and not empty; mend it.")
    return [_question(entry, f"{path}, question {number}") for number, entry in enumerate(raw, 1)]


def _question(entry: Any, place: str) -> Question:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("question"), str):
        raise DataError(f'{place}: it is no object with a "question" in words; mend it.')
    if unknown := sorted(set(entry) - _KEYS):
        raise DataError(f"{place}: unknown key {unknown[0]!r}; there are {sorted(_KEYS)}.")
    return Question(
        entry["question"].replace("<image>", "").strip(),
        _words(entry.get("image"), "image", place),
        _words(entry.get("answer"), "answer", place),
    )


def _words(value: Any, key: str, place: str) -> tuple[str, ...]:
    """A text, several, or nothing, as a tuple."""
    texts: Sequence[Any] = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f'{place}: "{key}" must be a text or a list of texts; mend it.')
    return tuple(texts)
