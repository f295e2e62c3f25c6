"""An OpenMoji package in miniature: every drawing a block of a colour that only it has."""

import json
from pathlib import Path

from neva.evaluate.openmoji import half
from neva.evaluate.scenes import SHAPES

SOLID = {
    "red": "d22f27", "orange": "e27022", "yellow": "fcea2b", "green": "5c9e31",
    "blue": "1e50a0", "purple": "8967aa", "brown": "6a462f", "black": "3f3f3f",
}  # fmt: skip
BLOCK = '<rect x="{x}" y="20" width="{wide}" height="32" fill="#{paint}"/>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{block}</svg>'
GROUPS = 12
PER_GROUP = 4


def paints() -> dict[str, str]:
    """Hexcode of a thing -> its colour, unlike any other's."""
    things = range(0x1F800, 0x1FA00)
    codes = [f"{code:X}" for code in things if half(f"{code:X}") == "report"][: GROUPS * PER_GROUP]
    return {code: f"{16 + 5 * n:02x}{200 - 3 * n:02x}c8" for n, code in enumerate(codes)}


def table() -> list[dict[str, str]]:
    """The shapes, and things of twelve subgroups; one thing is of the other half."""
    rows = [
        {"hexcode": code, "annotation": f"{colour} {shape}", "tags": "geometric",
         "group": "symbols", "subgroups": "geometric", "skintone": ""}
        for code, (shape, colour) in SHAPES.items()
    ]  # fmt: skip
    for number, code in enumerate(paints()):
        rows.append(thing(code, f"thing{number}", f"keyword{number}", f"group-{number % GROUPS}"))
    dev = next(f"{code:X}" for code in range(0x1F800, 0x1FA00) if half(f"{code:X}") == "dev")
    return [*rows, thing(dev, "forbidden", "", "group-0")]


def thing(code: str, name: str, tags: str, subgroup: str) -> dict[str, str]:
    """A row that scenes may use."""
    return {"hexcode": code, "annotation": name, "tags": tags, "group": "objects",
            "subgroups": subgroup, "skintone": ""}  # fmt: skip


def write_package(root: Path) -> Path:
    """The table and the SVGs of all that may be drawn."""
    svgs = root / "color" / "svg"
    svgs.mkdir(parents=True)
    (root / "data").mkdir()
    (root / "data" / "openmoji.json").write_text(json.dumps(table()))
    solid = {code: SOLID[colour] for code, (_, colour) in SHAPES.items()}
    for code, paint in (solid | paints()).items():
        block = BLOCK.format(x=20, wide=32, paint=paint)
        (svgs / f"{code}.svg").write_text(SVG.format(block=block))
    return root
