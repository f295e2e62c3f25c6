"""Where the things of a training scene stand: scattered over a square or on a loose grid.

The test's scenes stand in the centres of the cells of a grid. Ours are scattered for the larger
part and otherwise stand somewhere in the cells of grids of many sizes, whose cells need not be
square and are left out at random: the same question has to be answered from any arrangement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GAP = 4
ON_GRID = 0.4
"""Share of the scenes that stand on a grid."""
LONGEST = 4
"""Most columns or rows of a grid."""
Rng = np.random.Generator
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Spread:
    """A page ``(width, height)`` in pixels and a box (left, top, right, bottom) per thing."""

    page: tuple[int, int]
    boxes: tuple[Box, ...]


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A drawing's size when its longer side has the given length."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def spread(
    sizes: Sequence[tuple[int, int]], rng: Rng, scales: Sequence[float] | None = None
) -> Spread:
    """Boxes without overlap for drawings of these sizes, of which the proportions are kept.

    ``scales`` makes some larger than others: by how much each is to differ from the usual size.
    """
    scales = scales or [1.0] * len(sizes)
    place = loose_grid if rng.random() < ON_GRID else scattered
    return place(sizes, rng, scales)


def scattered(
    sizes: Sequence[tuple[int, int]], rng: Rng, scales: Sequence[float], tries: int = 60
) -> Spread:
    """Anywhere on a square page; starts again a little smaller when they do not fit."""
    side = int(rng.integers(160, 321))
    share = {1: 0.5, 2: 0.42, 3: 0.36, 4: 0.32}.get(len(sizes), 0.27)
    while True:
        boxes: list[Box] = []
        for size, scale in zip(sizes, scales, strict=True):
            length = side * share * rng.uniform(0.75, 1.05) * scale
            drawn = fitted(size, max(10, round(length)))
            box = _free_box(drawn, side, boxes, rng, tries)
            if box is None:
                break
            boxes.append(box)
        if len(boxes) == len(sizes):
            return Spread((side, side), tuple(boxes))
        share *= 0.93


def _free_box(
    size: tuple[int, int], side: int, boxes: list[Box], rng: Rng, tries: int
) -> Box | None:
    for _ in range(tries):
        left, top = (int(rng.integers(0, max(1, side - s))) for s in size)
        box = (left, top, left + size[0], top + size[1])
        if not any(overlap(box, other) for other in boxes):
            return box
    return None


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes come closer than the gap."""
    across = one[0] < other[2] + GAP and one[2] > other[0] - GAP
    return across and one[1] < other[3] + GAP and one[3] > other[1] - GAP


def grids(count: int) -> list[tuple[int, int]]:
    """(columns, rows) with a cell for each of ``count`` things and not many more."""
    sides = range(1, LONGEST + 1)
    return [(c, r) for c in sides for r in sides if count <= c * r <= min(12, 2 * count + 4)]


def loose_grid(sizes: Sequence[tuple[int, int]], rng: Rng, scales: Sequence[float]) -> Spread:
    """In cells of a grid, off their centres by up to four fifths of the room that is left; the
    largest is of the usual size, as none is to leave its cell."""
    choices = grids(len(sizes))
    columns, rows = choices[int(rng.integers(len(choices)))]
    across = int(rng.integers(180, 341)) // max(columns, rows)
    along = round(across * rng.uniform(0.8, 1.25))
    loose = rng.uniform(0.0, 0.8)
    cells = rng.permutation(columns * rows)[: len(sizes)]
    boxes = []
    for cell, size, scale in zip(cells.tolist(), sizes, scales, strict=True):
        length = min(across, along) * rng.uniform(0.6, 0.92) * scale / max(scales)
        wide, high = fitted(size, max(10, round(length)))
        moved = [s * (1 + loose * rng.uniform(-1, 1)) / 2 for s in (across - wide, along - high)]
        left = round(cell % columns * across + moved[0])
        top = round(cell // columns * along + moved[1])
        boxes.append((left, top, left + wide, top + high))
    return Spread((columns * across, rows * along), tuple(boxes))
