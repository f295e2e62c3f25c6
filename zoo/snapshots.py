"""Photographs to learn from: what the model is to say that it does not know.

They come with OpenCV's samples (Debian's ``opencv-doc``), older ones with stdlib's datasets (npm,
``zoo.sources.PHOTOGRAPHS``), and views of eighteen panoramas (`zoo.panoramas`). None
is among the test's (`zoo.photographs`), and no name is learnt of them. All are cut, turned and
coloured anew each time, since they are to teach what any photograph has and no drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from zoo import panoramas
from zoo.scenes import picture_size
from zoo.sources import PHOTOGRAPHS, fetch, source

Rng = np.random.Generator
SAMPLES = "usr/share/doc/opencv-doc/examples"
FILES = (
    *(f"data/{name}" for name in (
        "aero1.jpg", "aero3.jpg", "aloeL.jpg", "apple.jpg", "baboon.jpg", "board.jpg",
        "box_in_scene.png", "building.jpg", "butterfly.jpg", "ela_original.jpg",
        "fruits.jpg", "graf1.png", "home.jpg", "left.jpg", "leuvenA.jpg",
        "licenseplate_motion.jpg", "orange.jpg", "rubberwhale1.png", "squirrel_cls.jpg",
        "stuff.jpg",
    )),
    "alphamat/input_images/plant.jpg",
    *(f"hfs/data/00{number}.jpg" for number in range(3)),
    *(f"text/scenetext0{number}.jpg" for number in range(2, 7)),
)  # fmt: skip
"""The photographs among them; drawings, renderings, scans, second views and people are left out.
(Up to version 18 three with people were among them, one of those a press photograph.) Their licence
is the package's, as Debian tells it for all files at once; nobody tells it picture by picture."""
LEAST = 0.3
"""The smallest part of a photograph's sides that is shown."""
AROUND = 0.4
"""Share of views of panoramas, where there are any."""


@dataclass(frozen=True)
class Snapshots:
    """Files of photographs that views are cut from, and of panoramas to look around in."""

    files: tuple[Path, ...]
    around: tuple[Path, ...] = ()

    @classmethod
    def fetched(cls, packages: Path) -> Snapshots:
        """OpenCV's, stdlib's and Poly Haven's, fetched to ``packages``."""
        folder = fetch(source("opencv-doc"), packages) / SAMPLES
        older = (fetch(source(f"datasets-img-{name}"), packages) for name in PHOTOGRAPHS)
        files = [*(folder / name for name in FILES)]
        files += [one / "data" / "image.jpg" for one in older]
        around = panoramas.environments(fetch(source("@pmndrs/assets"), packages))
        return cls(tuple(files), around)

    def view(self, rng: Rng) -> Image.Image:
        """Any part of any of them, in any colours, of a record's size."""
        size = picture_size(rng)
        if self.around and rng.random() < AROUND:
            part = panoramas.view(self.around[int(rng.integers(len(self.around)))], size, rng)
        else:
            part = cut(_opened(self.files[int(rng.integers(len(self.files)))]), size, rng)
        part = ImageOps.mirror(part) if rng.random() < 0.5 else part
        part = ImageEnhance.Color(part).enhance(rng.uniform(0, 1.5))
        part = ImageEnhance.Contrast(part).enhance(rng.uniform(0.6, 1.3))
        return ImageEnhance.Brightness(part).enhance(rng.uniform(0.6, 1.3))


def cut(whole: Image.Image, size: tuple[int, int], rng: Rng) -> Image.Image:
    """Any part of a photograph, at ``size``."""
    sides = np.array(whole.size) * rng.uniform(LEAST, 1) * rng.uniform(0.7, 1, 2)
    left, top = rng.uniform(0, 1, 2) * (np.array(whole.size) - sides)
    box = (left, top, left + sides[0], top + sides[1])
    return whole.resize(size, Image.Resampling.BICUBIC, box)


@lru_cache(64)
def _opened(file: Path) -> Image.Image:
    return Image.open(file).convert("RGB")
