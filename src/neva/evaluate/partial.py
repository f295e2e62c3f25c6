"""Answers kept as they come, in a JSON-lines file beside the result, so that a run can go on.

The first line says what was run. A file of another run is refused, never mixed in or overwritten.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from neva.errors import DataError


@dataclass(frozen=True)
class Answer:
    """What the engine said to one question; `error` is why it could not be asked."""

    id: str
    text: str
    error: str | None = None


@dataclass
class Partial:
    """Answers so far; without a path they are kept in memory only."""

    path: Path | None
    run: Mapping[str, Any]
    answers: dict[str, Answer] = field(default_factory=dict)
    file: TextIO | None = None

    @classmethod
    def open(cls, path: Path | None, run: Mapping[str, Any]) -> "Partial":
        """Go on with a file of the same run, or begin one at the first answer."""
        partial = cls(path, run)
        if path is not None and path.exists():
            partial.read(path)
        return partial

    def read(self, path: Path) -> None:
        """Take over the answers; a last line that was cut off mid-write is dropped, and a question
        that could not be asked is asked again: the server may have more room by now.
        """
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            found = lines[0]["run"] if lines else self.run
            given = [Answer(**line) for line in lines[1:]]
        except (ValueError, TypeError, KeyError):
            raise DataError(f"{path} is not a partial result; move it away.") from None
        if found != self.run:
            other = ", ".join(
                f"{key} {found.get(key)!r} there and {self.run.get(key)!r} here"
                for key in sorted({*found, *self.run})
                if found.get(key) != self.run.get(key)
            )
            raise DataError(
                f"{path} is of an unfinished run with other settings ({other}); finish that run "
                "with its own settings, or remove the file to begin anew."
            )
        self.answers = {answer.id: answer for answer in given if answer.error is None}
        if len(whole) < len(raw):
            with path.open("r+b") as file:
                file.truncate(len(whole))

    def add(self, answer: Answer) -> None:
        """Keep an answer; it is on disk when this returns."""
        self.answers[answer.id] = answer
        if self.path is None:
            return
        if self.file is None:
            begun = self.path.exists() and self.path.stat().st_size > 0
            self.file = self.path.open("a", encoding="utf-8")
            if not begun:
                self.file.write(json.dumps({"run": self.run}) + "\n")
        self.file.write(json.dumps(asdict(answer)) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Leave the file for a later run."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def remove(self) -> None:
        """The run is whole: the result holds the answers now."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
