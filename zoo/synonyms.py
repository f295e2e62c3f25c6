"""Tux Paint's stamps judged by CLDR too: *fire engine* for what is captioned a fire truck.

`neva eval stamps` counts a caption's own noun only. Here an emoji's name counts too where a name of
the stamp is that emoji's name or keyword. That is near to how OpenMoji's drawings are judged, whose
names and keywords count, and not the same: a keyword is no answer here, but a narrower name is one
(*cherry blossom* for a flower). Told beside the strict figure, never in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from neva.evaluate.stamps import plain, singular
from neva.evaluate.task import percent
from zoo.judged import Result, read_result
from zoo.names import EmojiNames
from zoo.sources import fetch, source

FIGURE = "cldr"


def names_by_word(names: EmojiNames) -> Mapping[str, frozenset[str]]:
    """Name or keyword, as `plain` writes it -> the CLDR names of the emoji that bear it."""
    found: dict[str, set[str]] = defaultdict(set)
    for emoji in names.by_code.values():
        for word in (emoji.label, *emoji.keywords):
            found[plain(word)].add(plain(emoji.label))
    return {word: frozenset(labels) for word, labels in found.items()}


def share(result: Result, by_word: Mapping[str, frozenset[str]]) -> float:
    """Percent of a result's answers that are right, or CLDR's name for one of the stamp's names."""
    credits = []
    for one in result.judged:
        known = {name for gold in one.item.golds for name in by_word.get(plain(gold), ())}
        said = {one.read, *singular(one.read)}
        credits.append(max(one.credit, float(not said.isdisjoint(known))))
    return percent(credits)


def stamps_share(path: Path, packages: Path) -> float:
    """The figure of a result of the stamps that `neva eval --json` wrote."""
    names = EmojiNames.read(fetch(source("emojibase-data"), packages))
    return share(read_result(path, packages), names_by_word(names))
