"""Where the things of a test scene stand, and what follows from it.

Objects stand centred in cells of a grid of one to three columns and rows, so that two of them are
either in one column (row) or a whole cell apart: no answer depends on a threshold. The default
model is taught on scenes of other drawings, scattered or on loose grids (`zoo/layouts.py`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

Side = Literal["left", "right", "above", "below"]
OPPOSITE: dict[Side, Side] = {"left": "right", "right": "left", "above": "below", "below": "above"}

GRIDS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((1, 1), (2, 2), (3, 2), (3, 3)),
    2: ((2, 1), (1, 2), (2, 2), (3, 2), (2, 3)),
    3: ((3, 1), (1, 3), (2, 2), (3, 2), (3, 3)),
    4: ((2, 2), (3, 2), (2, 3), (3, 3)),
    5: ((3, 2), (2, 3), (3, 3)),
}
"""Number of objects -> (columns, rows) of the grids it may be laid out on."""

PAGES = ((255, 255, 255), (255, 255, 255), (246, 240, 226), (226, 238, 246), (236, 236, 236))


@dataclass(frozen=True)
class Actor:
    """A drawing as it is talked about: `colour` is "" unless it is a plain shape.

    `names` are all that count for it; no two actors of a scene share a `group` or one of `words`.
    """

    hexcode: str
    name: str
    colour: str
    names: tuple[str, ...]
    group: str
    words: frozenset[str]

    @property
    def phrase(self) -> str:
        """Its colour, if it is a shape, and its name."""
        return f"{self.colour} {self.name}".strip()


@dataclass(frozen=True)
class Placed:
    """An actor in its cell; `scale` is its longer side as a share of the cell's."""

    actor: Actor
    column: int
    row: int
    scale: float


@dataclass(frozen=True)
class Layout:
    """A scene of `columns` times `rows` cells of `cell` pixels on a page of one colour."""

    columns: int
    rows: int
    cell: int
    page: tuple[int, int, int]
    placed: tuple[Placed, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.columns * self.cell, self.rows * self.cell


def lay_out(actors: Sequence[Actor], rng: random.Random) -> Layout:
    """Put the actors into cells of a grid that is drawn for their number."""
    columns, rows = rng.choice(GRIDS[len(actors)])
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    spots = rng.sample(cells, len(actors))
    placed = tuple(
        Placed(actor, column, row, rng.uniform(0.68, 0.94))
        for actor, (column, row) in zip(actors, spots, strict=True)
    )
    side = rng.randint(240, 360) // max(columns, rows)
    return Layout(columns, rows, side, rng.choice(PAGES), placed)


def is_at(one: Placed, side: Side, other: Placed) -> bool:
    """Whether one stands on that side of the other."""
    return {
        "left": one.column < other.column,
        "right": one.column > other.column,
        "above": one.row < other.row,
        "below": one.row > other.row,
    }[side]


def pairs(layout: Layout, side: Side) -> list[tuple[Placed, Placed]]:
    """All (one, other) of different drawings with one on that side of the other."""
    return [
        (one, other)
        for one in layout.placed
        for other in layout.placed
        if one.actor != other.actor and is_at(one, side, other)
    ]


def outermost(layout: Layout, side: Side) -> Placed | None:
    """The object that stands on that side of all others; None where two share the place."""
    for one in layout.placed:
        if all(one is other or is_at(one, side, other) for other in layout.placed):
            return one
    return None


def paint(layout: Layout, drawings: dict[str, Image.Image]) -> Image.Image:
    """The picture; `drawings` are RGBA cut-outs by hexcode."""
    canvas = Image.new("RGB", layout.size, layout.page)
    for one in layout.placed:
        drawing = drawings[one.actor.hexcode]
        ratio = one.scale * layout.cell / max(drawing.size)
        size = (max(1, round(drawing.width * ratio)), max(1, round(drawing.height * ratio)))
        small = drawing.resize(size, Image.Resampling.LANCZOS)
        left = one.column * layout.cell + (layout.cell - size[0]) // 2
        top = one.row * layout.cell + (layout.cell - size[1]) // 2
        canvas.paste(small, (left, top), small)
    return canvas
