"""What kind of wrong a wrong name is: near by word, by meaning, by group, or far.

Asked of OpenMoji's drawings or Tux Paint's stamps. The kinds are tried in the order of KINDS, so
that each answer is of one kind; what is near is measured by the set's own names and keywords.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neva.evaluate.normalise import bare
from neva.evaluate.task import Item, Judged

KINDS = (
    "the name",
    "another name",
    "not sure",
    "nothing",
    "shared word",
    "near meaning",
    "same group",
    "another group",
    "no name",
)
"""Two kinds of right, two of silence, five of wrong from near to far."""

MEANING = {
    "the name": "right: the annotation",
    "another name": "right: another name or keyword that counts",
    "not sure": "says that it is not sure, or that the picture is outside what it knows",
    "nothing": "an empty answer",
    "shared word": "a word of the right name is in the answer",
    "near meaning": "no word of the name, but one of its keywords is in the answer, or what the "
    "answer names has a keyword in common with it",
    "same group": "the name or keyword of a drawing of the same group",
    "another group": "the name or keyword of drawings of other groups only",
    "no name": "nobody's name or keyword",
}
SMALL = "a an and at by for from in is it of on or the to with no not"
KINDS_OF_THINGS = "person people face flag button"  # these name a group, not the thing
SMALL_WORDS = frozenset((SMALL + " " + KINDS_OF_THINGS).split())
UNSURE = re.compile(
    r"\bnot (?:quite |really |very |at all )?(?:sure|certain)\b|\bunsure\b"
    r"|\b(?:do not|don't|cannot|can't|can not) (?:know|tell|see|recogni[sz]e|identify|name|say)\b"
    r"|\boutside (?:of )?what i\b|\blooks (?:blank|like (?:random )?noise)\b"
    r"|\bphoto(?:graph)?s?\b"
)


def unsure(answer: str) -> bool:
    """Whether an answer says that the model does not know, or that this is a photograph."""
    return UNSURE.search(answer.lower().replace("’", "'")) is not None


@dataclass(frozen=True)
class Names:
    """Who is called what: normalised name -> groups, and first name -> all names of its owners."""

    groups: dict[str, frozenset[str]]
    owners: dict[str, frozenset[str]]

    @classmethod
    def of(cls, items: Iterable[Item]) -> Names:
        """The names of a whole set; each item has a "group" among its facts."""
        groups: dict[str, set[str]] = defaultdict(set)
        owners: dict[str, set[str]] = defaultdict(set)
        for item in items:
            called = [bare(gold) for gold in item.golds]
            for name in called:
                groups[name].add(str(item.facts["group"]))
            owners[called[0]].update(called)
        return cls(
            {name: frozenset(found) for name, found in groups.items()},
            {name: frozenset(found) for name, found in owners.items()},
        )

    def kind(self, one: Judged) -> str:
        """The kind of an answer, one of KINDS."""
        called = [bare(gold) for gold in one.item.golds]
        if one.credit == 1:
            return "the name" if bare(one.answer) == called[0] else "another name"
        if unsure(one.answer):
            return "not sure"
        read = bare(one.answer)
        if not read:
            return "nothing"
        said = words([read])
        if said & words(called[:1]):
            return "shared word"
        common = self.owners.get(read, frozenset()) & set(called)
        if said & words(called[1:]) or any(words([name]) for name in common):
            return "near meaning"
        found = self.groups.get(read)
        if found is None:
            return "no name"
        return "same group" if str(one.item.facts["group"]) in found else "another group"


def words(names: Iterable[str]) -> frozenset[str]:
    """The words of normalised names that mean something by themselves."""
    return frozenset(word for name in names for word in name.split()) - SMALL_WORDS


@dataclass(frozen=True)
class Frequent:
    """A wrong answer, how often it came, of how many things, and the first few of these."""

    answer: str
    times: int
    things: int
    groups: tuple[str, ...]
    examples: tuple[str, ...]


def frequent(judged: Sequence[Judged], most: int = 20, shown: int = 4) -> list[Frequent]:
    """The commonest wrong answers, the commonest first, with what they were said of."""
    said: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.credit < 1:
            said[bare(one.answer)].append(one)
    order = sorted(said, key=lambda answer: (-len(said[answer]), answer))[:most]
    return [
        Frequent(
            answer,
            len(said[answer]),
            len({one.item.golds[0] for one in said[answer]}),
            tuple(top(str(one.item.facts.get("group", "")) for one in said[answer])),
            tuple(dict.fromkeys(one.item.golds[0] for one in said[answer]))[:shown],
        )
        for answer in order
    ]


def top(values: Iterable[str], most: int = 2) -> list[str]:
    """The commonest values; among equals the one that sorts first."""
    counts = Counter(values)
    return sorted(counts, key=lambda value: (-counts[value], value))[:most]
