"""The gallery: every drawing rendered once to RGBA, with its concept, words, artist and licence.

A drawing is cropped to its alpha box, padded to a square 1.06 times its longer side, and stored
as ``(128, 128, 4)`` uint8 with straight alpha. OpenMoji is rendered the same way into a gallery of
its own and is for evaluation only: a drawing belongs to the development half when the hash of
its codepoint is even and to the report half when it is odd (`openmoji_half`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image

from zoo.lines import colour_in

SIZE = 128
PATCH = 16
GRID = SIZE // PATCH
"""Patches of CLIP along a side."""
MARGIN = 1.06
Pixels = npt.NDArray[np.uint8]
LARGEST = 512
"""Pixels of a picture's longer side, before it is cropped."""
Art = str | tuple[str, str] | Path | Image.Image
"""A drawing's SVG text; for a coloured-in one, that of its lines and of what lends its colours; the
file of a picture; or a picture."""
GLYPH = "glyph"
"""Kind of what is drawn with typefaces (`zoo.glyphs`)."""


@dataclass(frozen=True)
class Drawing:
    """One drawing of one artist; its row in the gallery's pixels is its index in the table."""

    identifier: str
    concept: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    set_name: str
    kind: str
    licence: str
    codepoint: str
    details: tuple[str, ...] = ()
    """For a national flag: country, capital, continent."""


@dataclass(frozen=True)
class Gallery:
    """The table of drawings and their pixels ``(rows, 128, 128, 4)`` uint8, memory-mapped."""

    drawings: tuple[Drawing, ...]
    pixels: Pixels

    @classmethod
    def open(cls, folder: Path) -> Gallery:
        """Open a gallery written by `write`."""
        rows = []
        with (folder / "table.jsonl").open() as lines:
            for line in lines:
                row = json.loads(line)
                row["keywords"], row["details"] = tuple(row["keywords"]), tuple(row["details"])
                rows.append(Drawing(**row))
        return cls(tuple(rows), np.load(folder / "pixels.npy", mmap_mode="r"))

    def counts(self) -> dict[str, int]:
        """Drawings per set."""
        return dict(Counter(d.set_name for d in self.drawings))


def openmoji_half(codepoint: str) -> str:
    """``dev`` for an even hash of the codepoint, ``report`` for an odd one."""
    return "report" if hashlib.sha256(codepoint.encode()).digest()[0] % 2 else "dev"


def render(art: Art) -> Pixels | None:
    """A drawing's pixels, or None when it is empty or there is nothing to colour in."""
    if isinstance(art, str):
        return render_svg(art)
    if isinstance(art, Image.Image):
        return cropped(art)
    if isinstance(art, Path):
        picture = Image.open(art).convert("RGBA")
        picture.thumbnail((LARGEST, LARGEST))
        return cropped(picture)
    line, colours = (render_svg(svg) for svg in art)
    if line is None or colours is None:
        return None
    filled = colour_in(line, colours)
    return None if filled is line else filled


def render_svg(svg: str) -> Pixels | None:
    """SVG text -> ``(128, 128, 4)`` uint8 cropped to its alpha box, or None when it is empty."""
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=200)
    except ValueError:
        return None
    return cropped(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def cropped(image: Image.Image) -> Pixels | None:
    """RGBA of any size -> ``(128, 128, 4)`` uint8 cropped to its alpha box; None if it is empty."""
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    side = max(2, round(max(image.size) * MARGIN))
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def write(jobs: Iterable[tuple[Drawing, Art]], folder: Path, processes: int = 2) -> int:
    """Render jobs into a gallery folder, atomically; returns the number of drawings."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings, arts = zip(*jobs, strict=True)
    with ProcessPoolExecutor(processes) as pool:
        rendered = list(pool.map(render, arts, chunksize=64))
    kept = [(d, p) for d, p in zip(drawings, rendered, strict=True) if p is not None]
    with (folder / "pixels.npy.part").open("wb") as out:
        np.save(out, np.stack([p for _, p in kept]))
    (folder / "pixels.npy.part").rename(folder / "pixels.npy")
    part = folder / "table.jsonl.part"
    part.write_text("".join(json.dumps(asdict(d)) + "\n" for d, _ in kept))
    part.rename(folder / "table.jsonl")
    return len(kept)
