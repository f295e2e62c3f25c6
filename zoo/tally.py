"""Counts of what was true by what was said, and of what kind of question went how.

No text and no picture here: `zoo.confusions` writes these as Markdown, `zoo.confusion_plot` draws.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neva.evaluate.easy_vqa import SHAPES
from neva.evaluate.normalise import bare
from neva.evaluate.task import Judged
from zoo.wrong import KINDS, Names

OTHER = "other"
NEGATIONS = frozenset(("no", "not"))


@dataclass(frozen=True)
class Matrix:
    """`counts[i][j]`: how often truth i was called `said[j]`; the last of `said` is OTHER."""

    truths: tuple[str, ...]
    said: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def trimmed(self) -> Matrix:
        """Without the columns of what is no truth and was never said."""
        used = [place for place, _ in enumerate(self.said)
                if place < len(self.truths) or any(row[place] for row in self.counts)]  # fmt: skip
        counts = tuple(tuple(row[place] for place in used) for row in self.counts)
        return Matrix(self.truths, tuple(self.said[place] for place in used), counts)

    @property
    def right(self) -> int:
        """The answers on the diagonal."""
        return sum(row[self.said.index(true)] for true, row in self.rows())

    @property
    def total(self) -> int:
        """All answers."""
        return sum(sum(row) for row in self.counts)

    def rows(self) -> list[tuple[str, tuple[int, ...]]]:
        """(truth, its counts)."""
        return list(zip(self.truths, self.counts, strict=True))


def matrix(pairs: Iterable[tuple[str, str]], extra: int = 3) -> Matrix:
    """True by said; beside the truths the `extra` commonest other answers have columns."""
    found = list(pairs)
    truths = tuple(sorted({true for true, _ in found}, key=number_first))
    others = Counter(said for _, said in found if said not in truths)
    frequent = sorted(others, key=lambda said: (-others[said], said))[:extra]
    said = (*truths, *(f"({one or 'nothing'})" for one in frequent), OTHER)
    place = {one: index for index, one in enumerate([*truths, *frequent])}
    rows = {true: [0] * len(said) for true in truths}
    for true, answer in found:
        rows[true][place.get(answer, len(said) - 1)] += 1
    return Matrix(truths, said, tuple(tuple(rows[true]) for true in truths))


def number_first(text: str) -> tuple[int, str]:
    """Sorts "2" before "10" before words."""
    return (int(text), "") if text.isdigit() else (1 << 30, text)


def by_kind(judged: Sequence[Judged], kind: str) -> Matrix:
    """True by said of the questions of one kind of a task with short answers."""
    return matrix((bare(one.item.golds[0]), bare(one.answer)) for one in judged
                  if one.item.kind == kind)  # fmt: skip


def kinds_of(judged: Sequence[Judged], names: Names, key: str) -> dict[str, Counter[str]]:
    """How many answers of each kind (`zoo.wrong`), for each value of a fact, or of "kind"."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in judged:
        value = one.item.kind if key == "kind" else str(one.item.facts[key])
        found[value][names.kind(one)] += 1
    return {value: found[value] for value in sorted(found)}


def summed(counts: Iterable[Counter[str]]) -> Counter[str]:
    """All of them together, in the order of KINDS."""
    total: Counter[str] = sum(counts, Counter())
    return Counter({kind: total[kind] for kind in KINDS})


@dataclass(frozen=True)
class Form:
    """A form of question: how many, how many right, and its commonest answers with counts."""

    name: str
    asked: int
    right: float
    answers: tuple[tuple[str, int], ...]

    @property
    def percent(self) -> float:
        """Mean credit."""
        return 100 * self.right / self.asked


def forms(judged: Sequence[Judged], most: int = 5) -> list[Form]:
    """Scenes' questions by form, in the order of kind and form."""
    found: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in judged:
        found[one.item.kind, str(one.item.facts["form"])].append(one)
    return [form(name, found[kind, name], most) for kind, name in sorted(found)]


def easy_forms(judged: Sequence[Judged], most: int = 5) -> list[Form]:
    """easy-VQA's yes-or-no questions by what they ask about and whether they are negated."""
    found: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.item.kind == "yes_no":
            asked = frozenset(one.item.question.lower().strip(" ?").split())
            about = "a shape" if asked & SHAPES else "a colour"
            negated = ", negated" if asked & NEGATIONS else ""
            found[f"{about}{negated}; true: {one.item.golds[0]}"].append(one)
    return [form(name, found[name], most) for name in sorted(found)]


def form(name: str, judged: Sequence[Judged], most: int) -> Form:
    """One form's figures."""
    said = Counter(bare(one.answer) for one in judged)
    answers = sorted(said.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return Form(name, len(judged), sum(one.credit for one in judged), tuple(answers))
