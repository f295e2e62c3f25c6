"""Pictures like a user's: one drawing or several, at a place and scale, on a background.

A scene is made of `Placed` objects whose boxes are known, so that every answer about position,
count and colour follows from the geometry and is true by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from zoo.colours import Shape, draw_shape

GAP = 4
Rng = np.random.Generator


@dataclass(frozen=True)
class Placed:
    """One object: its name, its colour when that is known, and its box in pixels."""

    name: str
    colour: str
    box: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre ``(x, y)`` in pixels; y grows downwards."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def phrase(self) -> str:
        """``red circle`` when the colour is known, else the name."""
        return f"{self.colour} {self.name}".strip()


@dataclass(frozen=True)
class Scene:
    """A picture ``size`` pixels wide and high, and what is in it."""

    size: tuple[int, int]
    objects: tuple[Placed, ...]

    def by_x(self) -> tuple[Placed, ...]:
        """The objects from left to right."""
        return tuple(sorted(self.objects, key=lambda o: o.centre[0]))

    def by_y(self) -> tuple[Placed, ...]:
        """The objects from top to bottom."""
        return tuple(sorted(self.objects, key=lambda o: o.centre[1]))


def side_of(one: Placed, other: Placed) -> tuple[str, str]:
    """Where one is, seen from the other: (``left`` or ``right``, ``above`` or ``below``).

    An empty word stands where the centres differ by less than half the objects' mean size.
    """
    (x, y), (ox, oy) = one.centre, other.centre
    width = ((one.box[2] - one.box[0]) + (other.box[2] - other.box[0])) / 4
    height = ((one.box[3] - one.box[1]) + (other.box[3] - other.box[1])) / 4
    across = "" if abs(x - ox) < width else ("left" if x < ox else "right")
    along = "" if abs(y - oy) < height else ("above" if y < oy else "below")
    return across, along


def third_of(scene: Scene, placed: Placed) -> str:
    """Where an object is in its picture, as ``top left`` or ``centre``."""
    x, y = (c / s for c, s in zip(placed.centre, scene.size, strict=True))
    across = "left" if x < 0.36 else "right" if x > 0.64 else ""
    along = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    return f"{along} {across}".strip() or "centre"


def background(size: tuple[int, int], rng: Rng) -> Image.Image:
    """White for over half of the pictures, else light, any colour, a gradient or fine noise."""
    width, height = size
    dice = rng.random()
    if dice < 0.55:
        return Image.new("RGB", size, (255, 255, 255))
    base = rng.uniform(200, 255, 3) if dice < 0.9 else rng.uniform(60, 255, 3)
    pixels = np.broadcast_to(base, (height, width, 3)).copy()
    if 0.75 < dice < 0.85:
        pixels += np.linspace(-40, 15, height)[:, None, None]
    elif 0.85 <= dice < 0.9:
        pixels += rng.normal(0, 12, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def picture_size(rng: Rng) -> tuple[int, int]:
    """96 to 320 pixels; two of three are square."""
    width = int(rng.integers(96, 321))
    if rng.random() < 0.67:
        return width, width
    return width, int(np.clip(width * rng.uniform(0.7, 1.4), 96, 320))


def cut_out(pixels: npt.NDArray[np.uint8], ink: tuple[int, int, int] | None = None) -> Image.Image:
    """A gallery drawing ``(96, 96, 4)`` cropped to its alpha box, a mono one in its ink."""
    image = Image.fromarray(np.array(pixels))
    if ink is not None:
        solid = Image.new("RGBA", image.size, (*ink, 255))
        solid.putalpha(image.getchannel("A"))
        image = solid
    return image.crop(image.getchannel("A").getbbox() or (0, 0, *image.size))


def fit(image: Image.Image, side: int) -> Image.Image:
    """Scaled so that the longer side has the given length."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def single(image: Image.Image, name: str, rng: Rng) -> tuple[Image.Image, Scene]:
    """One drawing, a little turned: 60% nearly fill the picture, 40% are smaller and anywhere."""
    size = picture_size(rng)
    canvas = background(size, rng)
    share = rng.uniform(0.82, 0.98) if rng.random() < 0.6 else rng.uniform(0.4, 0.85)
    if rng.random() < 0.5:
        image = image.rotate(rng.normal(0, 4), Image.Resampling.BICUBIC, expand=True)
        image = image.crop(image.getchannel("A").getbbox() or (0, 0, *image.size))
    drawn = fit(image, max(8, round(share * min(size))))
    slack = (size[0] - drawn.width, size[1] - drawn.height)
    if share > 0.82:
        left, top = slack[0] // 2, slack[1] // 2
    else:
        left, top = (int(rng.integers(0, max(1, s + 1))) for s in slack)
    canvas.paste(drawn, (left, top), drawn)
    box = (left, top, left + drawn.width, top + drawn.height)
    return weathered(canvas, rng), Scene(size, (Placed(name, "", box),))


def weathered(picture: Image.Image, rng: Rng) -> Image.Image:
    """One time of eight blurred, as pictures on the web are that were scaled up."""
    if rng.random() < 0.125:
        return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6)))
    return picture


@dataclass(frozen=True)
class Actor:
    """What may stand in a scene: a cut-out drawing or a plain shape."""

    name: str
    colour: str
    image: Image.Image


def shape_actor(shape: Shape, rng: Rng) -> Actor:
    """A plain shape as an actor."""
    return Actor(shape.kind, shape.colour, draw_shape(shape, 90, rng))


def _overlaps(box: tuple[int, int, int, int], others: list[Placed]) -> bool:
    left, top, right, bottom = box
    return any(
        left < o.box[2] + GAP
        and right > o.box[0] - GAP
        and top < o.box[3] + GAP
        and bottom > o.box[1] - GAP
        for o in others
    )


def compose_scene(actors: list[Actor], rng: Rng, tries: int = 60) -> tuple[Image.Image, Scene]:
    """Place actors without overlap; starts again a little smaller when they do not fit."""
    side = int(rng.integers(160, 321))
    share = {1: 0.5, 2: 0.42, 3: 0.36, 4: 0.32}.get(len(actors), 0.27)
    while True:
        placed: list[Placed] = []
        images: list[Image.Image] = []
        for actor in actors:
            drawn = fit(actor.image, max(10, round(side * share * rng.uniform(0.75, 1.05))))
            box = _free_box(drawn.size, side, placed, rng, tries)
            if box is None:
                break
            placed.append(Placed(actor.name, actor.colour, box))
            images.append(drawn)
        if len(placed) == len(actors):
            break
        share *= 0.93
    canvas = background((side, side), rng)
    for item, drawn in zip(placed, images, strict=True):
        canvas.paste(drawn, item.box[:2], drawn)
    return canvas, Scene((side, side), tuple(placed))


def _free_box(
    size: tuple[int, int], side: int, placed: list[Placed], rng: Rng, tries: int
) -> tuple[int, int, int, int] | None:
    for _ in range(tries):
        left, top = (int(rng.integers(0, max(1, side - s))) for s in size)
        box = (left, top, left + size[0], top + size[1])
        if not _overlaps(box, placed):
            return box
    return None
