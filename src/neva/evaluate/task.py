"""What a benchmark is: items to ask, a judge of one answer, and figures over all of them.

A task never runs a model: it gives items, and reads answers. Figures are percent unless their name
says otherwise, as in the literature.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from neva.errors import DataError

# LLaVA-1.5's suffix for short answers; which one was used is recorded with every score.
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
# LLaVA's loader cuts there. Shorter ones would read a late "no" as "yes" in POPE, and long text or
# numbers in a picture could not be read out.
LLAVA_TOKENS = 128
# And for one of several options.
OPTION_LETTER = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Item:
    """One question. `golds` are the accepted answers (for VQA: one per annotator), the one to show
    first; `kind` is the group it is tabled under; `facts` is what its own metric needs besides.
    """

    id: str
    question: str
    image: Path | None
    golds: tuple[str, ...]
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """An answered item: `read` is what the metric understood of the answer, `credit` 0 to 1.

    `error` is why there is no answer (a question longer than the context); it earns nothing.
    """

    item: Item
    answer: str
    read: str
    credit: float
    error: str | None = None


class Task(Protocol):
    """A benchmark."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def summary(self) -> str:
        """One sentence: what is asked, and what counts."""
        ...

    @property
    def headline(self) -> str:
        """The figure of `metrics` that the literature quotes."""
        ...

    @property
    def suffix(self) -> str:
        """What follows every question, unless the caller wants another."""
        ...

    @property
    def max_tokens(self) -> int:
        """Where an answer is cut."""
        ...

    def load(self, data: Path | None) -> list[Item]:
        """Read the items; `data` is the folder with the benchmark's files. Raises DataError."""
        ...

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """(what is understood, credit 0 to 1) of an answer."""
        ...

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """All figures, the headline among them."""
        ...

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """What a constant or question-only guess would score, under the names of `metrics`."""
        ...


def percent(credits: Sequence[float]) -> float:
    """Mean credit in percent; 0 of none."""
    return 100 * sum(credits) / len(credits) if credits else 0.0


def accuracy_by_kind(scored: Sequence[tuple[str, float]]) -> dict[str, float]:
    """(kind, credit) pairs to {"accuracy": all, "accuracy.KIND": ..., "n.KIND": ...}."""
    groups: dict[str, list[float]] = defaultdict(list)
    for kind, credit in scored:
        groups[kind].append(credit)
    figures = {"accuracy": percent([credit for _, credit in scored])}
    for kind in sorted(groups):
        if kind:
            figures[f"accuracy.{kind}"] = percent(groups[kind])
            figures[f"n.{kind}"] = float(len(groups[kind]))
    return figures


def accuracy(judged: Sequence[Judged]) -> dict[str, float]:
    """Accuracy overall and by kind."""
    return accuracy_by_kind([(one.item.kind, one.credit) for one in judged])


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """`limit` items at even distances, so that a short run sees every part of the set."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def choose(items: Sequence[Item], limit: int | None) -> list[Item]:
    """About `limit` items, spread; those of one "pair" among their facts only together."""
    groups: dict[object, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.facts.get("pair", (item.id,))].append(item)
    if limit is None or limit >= len(items) or len(groups) == len(items):
        return spread(items, limit)
    pairs = list(groups.values())
    kept = max(1, limit * len(pairs) // len(items))
    return [item for i in range(kept) for item in pairs[i * len(pairs) // kept]]


def digest(items: Sequence[Item]) -> str:
    """Which set it is: a hash of ids, questions, true answers, pictures' names and sizes.

    The pictures' bytes are not read, which would take minutes, nor where they lie.
    """
    pictures = {item.image for item in items if item.image is not None}
    sizes = {path: path.stat().st_size if path.is_file() else -1 for path in pictures}
    rows = [
        (one.id, one.question, one.golds, one.image and (one.image.name, sizes[one.image]))
        for one in items
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def verify(task: str, items: Sequence[Item]) -> None:
    """Refuse a set that cannot be run whole: a score over part of a set is not its score."""
    if not items:
        raise DataError(f"{task}: the files hold no question; check --data.")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{task}: two questions have the id {item.id!r}; the file is damaged.")
        seen.add(item.id)
    missing = [item for item in items if item.image is not None and not item.image.is_file()]
    if missing:
        raise DataError(
            f"{task}: {len(missing)} of {len(items)} questions lack their picture, first "
            f"{missing[0].image} of question {missing[0].id!r}; put it there or correct --data."
        )
