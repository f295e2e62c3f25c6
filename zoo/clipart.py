"""Clip art of things by many hands, shaded and plain, from Debian's openclipart.

    python -m zoo.clipart           # is any of it one of Tux Paint's stamps?

`clipart.tsv` says which of its 8,121 pictures are used, and as which emoji: those whose title, file
name or the English of an Italian title is a CLDR name or keyword, looked through by eye. Some forty
of Tux Paint's stamps are the same pictures. Whatever is as near to a stamp as `NEAR` is left out
(the same pictures have .6 to 1, other ones of the same thing seldom .45), so that the stamps stay a
set never trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

TABLE = Path(__file__).with_suffix(".tsv")
FOLDER = Path("usr/share/openclipart/png")
NEAR = 0.45
"""Cosine of the teacher's whitened features."""


def chosen(package: Path) -> Iterator[tuple[str, str, Path]]:
    """Identifier, the emoji's CLDR name, and the file of each picture of an unpacked package."""
    for line in TABLE.read_text().splitlines():
        identifier, name = line.split("\t")
        yield identifier, name, package / FOLDER / f"{identifier}.png"


def nearest_stamps(work: Path) -> Iterator[tuple[str, str, float]]:
    """Of each picture in use the stamp that is nearest, and the cosine; from near to far."""
    from neva.evaluate.stamps import Stamps
    from zoo.drawings import Drawing, Gallery, cropped
    from zoo.judged import data_of
    from zoo.teacher import EfficientNetLite0, Whitening, feature_maps, flatten

    gallery = Gallery.open(work / "drawings")
    rows = [n for n, d in enumerate(gallery.drawings) if d.set_name == "openclipart-png"]
    stamps: list[tuple[Drawing, np.ndarray]] = []
    for item in Stamps().load(data_of("stamps", work / "packages")):
        assert item.image is not None
        pixels = cropped(Image.open(item.image).convert("RGBA"))
        if pixels is not None:
            stamps.append((Drawing(item.id, "", (), "", "", "", "", "", ""), pixels))
    saved = np.load(work / "teacher" / "whitening.npz")
    whiten = Whitening(saved["centre"], saved["matrix"])
    judge = Gallery(tuple(d for d, _ in stamps), np.stack([p for _, p in stamps]))
    shown = whiten(flatten(*feature_maps(judge, EfficientNetLite0.pretrained(work / "packages"))))
    maps = [np.load(work / "teacher" / f"{m}.npy", mmap_mode="r")[rows] for m in ("middle", "late")]
    cosines = whiten(flatten(*maps)) @ shown.T
    for place in np.argsort(-cosines.max(1)):
        best = int(cosines[place].argmax())
        identifier = gallery.drawings[rows[place]].identifier
        yield identifier, stamps[best][0].identifier, float(cosines[place, best])


def main(argv: list[str] | None = None) -> int:
    """Print the pictures that are nearest to a stamp; fails if one is too near."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    found = list(nearest_stamps(parser.parse_args(argv).work))
    for identifier, stamp, cosine in found[:10]:
        print(f"{cosine:.3f}  {identifier}  {stamp}")
    return int(any(cosine >= NEAR for _, _, cosine in found))


if __name__ == "__main__":
    sys.exit(main())
