"""What the same model scores without its eyes, so that a gain can be credited to them.

"text" asks without the picture; "shuffled" shows every question the picture of another.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from neva.errors import DataError
from neva.evaluate.task import Item

Baseline = Literal["none", "text", "shuffled"]


def blind(items: Sequence[Item], baseline: Baseline, seed: int = 0) -> list[Item]:
    """The items as the baseline asks them."""
    if baseline == "none":
        return list(items)
    if baseline == "text":
        return [replace(item, image=None) for item in items]
    others = exchange(sorted({item.image for item in items if item.image is not None}), seed)
    return [replace(item, image=others[item.image] if item.image else None) for item in items]


def exchange(pictures: Sequence[Path], seed: int) -> dict[Path, Path]:
    """Another picture for each: one round trip through all of them in random order."""
    if len(pictures) < 2:
        raise DataError("the shuffled baseline needs two pictures or more; raise --limit.")
    order = list(pictures)
    random.Random(seed).shuffle(order)
    return dict(zip(order, order[1:] + order[:1], strict=True))
