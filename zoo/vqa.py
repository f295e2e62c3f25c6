"""easy-VQA's TRAIN split only: images, questions, and each image's shape and colour.

The test split is a judge and is never opened here. The last 500 train images are held out of
CLIP training as well, for its linear probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import easy_vqa
import numpy as np
import numpy.typing as npt
from PIL import Image

from zoo.drawings import SIZE

HELD_OUT = 500
NEGATIONS = {"not", "no"}
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("red", "green", "blue", "yellow", "teal", "brown", "gray", "black")


@dataclass(frozen=True)
class VqaImage:
    """One train image with all its own questions."""

    number: int
    path: Path
    questions: tuple[tuple[str, str], ...]
    shape: str
    colour: str


def train_images() -> list[VqaImage]:
    """All train images in order of their number."""
    texts, answers, numbers = easy_vqa.get_train_questions()
    paths = easy_vqa.get_train_image_paths()
    grouped: dict[int, list[tuple[str, str]]] = {}
    for text, answer, number in zip(texts, answers, numbers, strict=True):
        grouped.setdefault(number, []).append((text, answer))
    return [_image(n, Path(paths[n]), tuple(grouped[n])) for n in sorted(grouped)]


def _image(number: int, path: Path, questions: tuple[tuple[str, str], ...]) -> VqaImage:
    return VqaImage(
        number, path, questions, _present(questions, SHAPES), _present(questions, COLOURS)
    )


def _present(questions: tuple[tuple[str, str], ...], choices: tuple[str, ...]) -> str:
    """The one choice that the answers say is in the image, or an empty string."""
    for question, answer in questions:
        if answer in choices:
            return answer
        named = next((c for c in choices if c in question.replace("?", "").split()), "")
        if named and answer == ("no" if NEGATIONS & set(question.split()) else "yes"):
            return named
    return ""


def pixels(images: list[VqaImage], size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Images resized with bicubic, as CLIP's processor does: ``(N, size, size, 3)``."""
    square = (size, size)
    return np.stack(
        [
            np.asarray(Image.open(i.path).convert("RGB").resize(square, Image.Resampling.BICUBIC))
            for i in images
        ]
    )
