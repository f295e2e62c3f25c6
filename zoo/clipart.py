"""Clip art of things by many hands, shaded and plain, from Debian's openclipart.

`clipart.tsv` says which of its 8,121 pictures are used, and as which emoji: those whose title, file
name or the English of an Italian title is a CLDR name or keyword, looked through by eye. Some forty
of Tux Paint's stamps are the same pictures. Whatever is as near to a stamp as .45, by the cosine of
the teacher's whitened features, is left out (the same pictures have .6 to 1, other ones of the same
thing seldom .45), so that the stamps stay a set never trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TABLE = Path(__file__).with_suffix(".tsv")
FOLDER = Path("usr/share/openclipart/png")


def chosen(package: Path) -> Iterator[tuple[str, str, Path]]:
    """Identifier, the emoji's CLDR name, and the file of each picture of an unpacked package."""
    for line in TABLE.read_text().splitlines():
        identifier, name = line.split("\t")
        yield identifier, name, package / FOLDER / f"{identifier}.png"
