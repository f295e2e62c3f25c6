"""A finished evaluation: its figures, what stands beside them, and every answer.

The suffix and the baseline belong to the score: without them nobody can repeat it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

from neva.evaluate.normalise import bare
from neva.evaluate.task import Judged

Z95 = 1.96


@dataclass(frozen=True)
class Report:
    """`asked` is what was run (model, engine, suffix, baseline, limit), `total` the set's size,
    `floor` what a guess without a model would score on the same items, `beside` the metrics of the
    same model by baseline ("text", "shuffled"), `seconds` wall time of this run, in which `resumed`
    answers were already there.
    """

    task: str
    summary: str
    headline: str
    asked: Mapping[str, Any]
    total: int
    metrics: Mapping[str, float]
    floor: Mapping[str, float]
    judged: Sequence[Judged]
    seconds: float
    beside: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    resumed: int = 0

    @property
    def errors(self) -> int:
        """Questions that could not be asked."""
        return sum(one.error is not None for one in self.judged)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the mean credit, in percent: chance of the draw of questions."""
        return wilson(sum(one.credit for one in self.judged), len(self.judged))

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        return {
            "task": self.task,
            "asked": dict(self.asked),
            "questions": len(self.judged),
            "of": self.total,
            "errors": self.errors,
            "headline": {"name": self.headline, "value": self.metrics[self.headline]},
            "interval_95": list(self.interval),
            "metrics": dict(self.metrics),
            "floor": dict(self.floor),
            "beside": {name: dict(metrics) for name, metrics in self.beside.items()},
            "confusion": confusion_json(self.judged),
            "seconds": round(self.seconds, 3),
            "resumed": self.resumed,
            "answers": [answer_json(one) for one in self.judged],
        }


def confusion_json(judged: Sequence[Judged]) -> dict[str, Any] | None:
    """The confusion table, for a program: counts[i][j] of truth i and label j, "other" last."""
    found = confusion(judged)
    return None if found is None else {"labels": found[0], "counts": found[1]}


def answer_json(one: Judged) -> dict[str, Any]:
    """One judged item, for a program."""
    shown = {
        "id": one.item.id,
        "question": one.item.question,
        "kind": one.item.kind,
        "gold": one.item.golds[0],
        "answer": one.answer,
        "read": one.read,
        "credit": one.credit,
    }
    return shown if one.error is None else shown | {"error": one.error}


def wilson(right: float, of: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share, in percent; (0, 100) of nothing."""
    if of == 0:
        return 0.0, 100.0
    share, z2 = right / of, Z95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    reach = Z95 * sqrt(share * (1 - share) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    return 100 * max(0.0, middle - reach), 100 * min(1.0, middle + reach)


def columns(report: Report) -> list[str]:
    """The table's header: the score, the same model without its eyes, a guess without a model."""
    return ["figure", "score", *report.beside, "no model"]


def rows(report: Report) -> list[list[str]]:
    """The table's lines, the headline first, counts beside their kind."""
    order = [report.headline, *(name for name in report.metrics if name != report.headline)]
    sources = [report.metrics, *report.beside.values(), report.floor]
    lines = []
    for name in order:
        if name.startswith("n."):
            continue
        count = report.metrics.get(f"n.{name.partition('.')[2]}")
        label = f"{name} ({count:.0f})" if count is not None else name
        lines.append([label, *(f"{one[name]:.2f}" if name in one else "" for one in sources)])
    return lines


def confusion(judged: Sequence[Judged], most: int = 16) -> tuple[list[str], list[list[int]]] | None:
    """(labels, counts of true by said), for tasks with few true answers or with groups; else None.

    Where items have a "group" among their facts, an answer counts as the group of what it names.
    A right answer counts as the truth in whichever words. The last column, "other", is for answers
    that are never the truth.
    """
    pairs = grouped(judged) or [
        (one.item.golds[0], one.item.golds[0] if one.credit == 1 else one.read) for one in judged
    ]
    truths = sorted({true for true, _ in pairs})
    if not 1 < len(truths) <= most:
        return None
    place = {true: index for index, true in enumerate(truths)}
    counts = [[0] * (len(truths) + 1) for _ in truths]
    for true, said in pairs:
        counts[place[true]][place.get(said, len(truths))] += 1
    return truths, counts


def grouped(judged: Sequence[Judged]) -> list[tuple[str, str]]:
    """(true group, group said) of each; empty for tasks without groups.

    A right answer is of its own group; another of the group of the item it is first name of, or,
    if it is nobody's, of the only group in which it is a name; else of none ("").
    """
    if any("group" not in one.item.facts for one in judged):
        return []
    firsts: dict[str, str] = {}
    anywhere: dict[str, set[str]] = defaultdict(set)
    for one in judged:
        group = str(one.item.facts["group"])
        firsts.setdefault(bare(one.item.golds[0]), group)
        for gold in one.item.golds:
            anywhere[bare(gold)].add(group)
    only = {name: next(iter(groups)) for name, groups in anywhere.items() if len(groups) == 1}
    named = only | firsts
    return [
        (str(one.item.facts["group"]),
         str(one.item.facts["group"]) if one.credit == 1 else named.get(one.read, ""))
        for one in judged
    ]  # fmt: skip


def commonest_misses(judged: Sequence[Judged], most: int = 20) -> list[tuple[str, str, int]]:
    """(gold, read instead, how often), the commonest first."""
    missed = Counter((one.item.golds[0], one.read) for one in judged if one.credit == 0)
    ordered = sorted(missed.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(gold, read, count) for (gold, read), count in ordered[:most]]


def write_json(report: Report, path: Path) -> None:
    """Write the JSON whole or not at all."""
    write_whole(path, json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file aside, then give it its name."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
