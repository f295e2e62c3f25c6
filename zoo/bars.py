"""What the bars beside a picture that is no square cost: stamps and photographs, padded two ways.

    python -m zoo.bars            # two minutes

A checkpoint whose aspect is *pad* makes a square with bars of CLIP's mean colour (LLaVA 1.5). Until
the default model's fourteenth version the drawings of its training were squares, so bars were
something that only unknown pictures had, and it said so. Here the same pictures are made squares
before they are asked about, with bars of their own border's colour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from neva.engine import open_engine
from neva.evaluate import TASKS, Item, Task, evaluate, read
from neva.images import read_image
from neva.model import Checkpoint
from neva.nano.assemble import default_checkpoint
from zoo.judged import data_of
from zoo.photographs import Photographs, cut, fetch


def with_own_border(picture: Image.Image) -> Image.Image:
    """A square of the longer side; the rest has the median colour of the picture's border."""
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = (int(value) for value in np.median(border, axis=0))
    side = max(picture.size)
    square = Image.new("RGB", (side, side), (red, green, blue))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def squared(items: Sequence[Item], out: Path) -> list[Item]:
    """The same questions about square pictures, written to ``out``."""
    made = []
    for number, item in enumerate(items):
        assert item.image is not None, item.id
        path = out / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with_own_border(Image.fromarray(read_image(item.image).array)).save(path)
        made.append(replace(item, image=path))
    return made


def sets(work: Path) -> dict[str, tuple[Task, list[Item]]]:
    """Stamps and photographs."""
    place = work / "photographs"
    cut(fetch(work / "packages" / "wheels"), place)
    stamps, photographs = TASKS["stamps"], Photographs()
    return {
        "stamps": (stamps, read(stamps, data_of("stamps", work / "packages"))),
        "photographs": (photographs, photographs.load(place)),
    }


def main(argv: list[str] | None = None) -> int:
    """Print what is right, and what it is not sure of, with either kind of bars."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    o = parser.parse_args(argv)
    print("| set | bars | right, % | not sure, % |\n|---|---|---|---|")
    with closing(open_engine(Checkpoint.open(default_checkpoint()))) as engine:
        for name, (task, items) in sets(o.work).items():
            for bars, asked in (
                ("mean colour", items),
                ("own border", squared(items, o.work / "bars" / name)),
            ):
                judged = evaluate(task, engine, items=asked).judged
                right = 100 * np.mean([one.credit for one in judged])
                unsure = 100 * np.mean(["not sure" in one.answer for one in judged])
                print(f"| {name} | {bars} | {right:.1f} | {unsure:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
