"""A run folder as a report tells it: everything that is in it, read without torch.

Works on a run that goes on, was stopped, or was killed in the middle of a line.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neva.errors import NevaError

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question of the probe and its answers by step, in the order of steps."""

    text: str
    golds: tuple[str, ...]
    thumbnails: tuple[Path, ...]
    answers: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Story:
    """What a run's files say. `summary` is None while it goes on, or when it was killed."""

    path: Path
    recipe: Line
    inputs: Line
    environment: Line
    summary: Line | None
    lines: tuple[Line, ...]
    asked: tuple[Asked, ...]

    @cached_property
    def steps(self) -> list[Line]:
        """The lines of steps."""
        return [line for line in self.lines if "learning_rate" in line]

    @cached_property
    def validations(self) -> list[Line]:
        """Validation losses; one that was not finite is null in the file, and not here."""
        return [line for line in self.lines if line.get("validation_loss") is not None]

    @cached_property
    def probes(self) -> list[Line]:
        """Shares of the probe's questions that were answered right."""
        return [line for line in self.lines if line.get("probe") is not None]

    def events(self, *kinds: str) -> list[Line]:
        """What happened of these kinds: skipped, spike, not finite."""
        return [line for line in self.lines if line.get("event") in kinds]


def read_story(path: Path) -> Story:
    """Read a run folder. NevaError if it is none."""
    if not (path / "recipe.json").is_file():
        raise NevaError(f"{path} holds no run (no recipe.json); give a folder that -o has named.")
    return Story(
        path=path,
        recipe=_read(path / "recipe.json"),
        inputs=_read(path / "inputs.json"),
        environment=_read(path / "environment.json"),
        summary=_read(path / "summary.json") or None,
        lines=tuple(read_lines(path / "metrics.jsonl")),
        asked=tuple(_asked(path / "probe")),
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON lines; none if it is not there."""
    if path.is_file():
        # Not splitlines: it also splits at U+2028 and others, which JSON leaves as they are.
        *whole, _ = path.read_text(encoding="utf-8").split("\n")  # the last may be half written
        yield from map(json.loads, whole)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _asked(folder: Path) -> Iterator[Asked]:
    answered: Sequence[Line] = list(read_lines(folder / "answers.jsonl"))
    for number, entry in enumerate(_read(folder / "questions.json").get("questions", ())):
        yield Asked(
            entry["text"],
            tuple(entry["golds"]),
            tuple(folder / name for name in entry["thumbnails"]),
            tuple((line["step"], line["answers"][number]) for line in answered),
        )
