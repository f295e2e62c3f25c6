"""Comparisons of sizes by how many of the two things are seldom named.

    python -m zoo.compared zoo/results/sizes.json        # any results of `neva eval sizes`

A shape is told by its colour first; what else is common stands in `zoo.casting.COMMON`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.casting import COMMON
from zoo.colours import COLOURS

COMPARED = re.compile(r"(?:Is|Which is \w+,) the (.+?) (?:or|\w+er than) the (.+)\?")
"""Both kinds of comparison of `neva.evaluate.sizes`, with the names of the two."""


def common(name: str) -> bool:
    """Whether records without `Casting.rare` named it."""
    return name in COMMON or name.split()[0] in COLOURS


def by_common(answers: Iterable[Mapping[str, Any]]) -> dict[int, list[float]]:
    """Credits of the comparisons, by how many of the two things are common."""
    found: dict[int, list[float]] = defaultdict(list)
    for answer in answers:
        if match := COMPARED.fullmatch(answer["question"]):
            found[sum(map(common, match.groups()))].append(answer["credit"])
    return dict(sorted(found.items(), reverse=True))


def main(argv: list[str] | None = None) -> int:
    """Print the share of right comparisons by how many of the two things are common."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path, help="the file of `neva eval sizes --json`")
    answers = json.loads(parser.parse_args(argv).results.read_text(encoding="utf-8"))["answers"]
    print("| of the two are common | comparisons | right, % |\n|---|---|---|")
    for number, credits in by_common(answers).items():
        print(f"| {number} | {len(credits)} | {100 * sum(credits) / len(credits):.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
