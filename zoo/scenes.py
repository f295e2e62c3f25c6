"""Pictures like a user's: one drawing or several, at a place and scale, on a background.

A scene is made of `Placed` objects whose boxes are known, so that every answer about position,
count and colour follows from the geometry and is true by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from zoo.colours import Shape, draw_shape
from zoo.layouts import fitted, spread

Rng = np.random.Generator
DISTINCT = 65
"""By how much a shape differs from its background in one of red, green and blue, 0 to 255."""
TRIMMED = 0.35
"""Share of the pictures of one drawing that end where it ends, as what was cut out does."""
Who = tuple[str, str]
"""A name and, for a plain shape, its colour."""


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
    def length(self) -> int:
        """The longer side of its box, in pixels: what makes it large or small."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)

    @property
    def who(self) -> Who:
        """Name and colour."""
        return self.name, self.colour

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


def background_for(page: tuple[int, int], actors: Sequence[Actor], rng: Rng) -> Image.Image:
    """A background on which no plain shape is lost; white if chance finds none."""
    shapes = [_mean_colour(actor.image) for actor in actors if actor.colour]
    for _ in range(8):
        back = background(page, rng)
        mean = _mean_colour(back)
        if all(np.abs(mean - colour).max() > DISTINCT for colour in shapes):
            return back
    return Image.new("RGB", page, (255, 255, 255))


def _mean_colour(image: Image.Image) -> npt.NDArray[np.float64]:
    pixels = np.asarray(image.convert("RGBA").resize((24, 24)), np.float64)
    return np.average(pixels[..., :3].reshape(-1, 3), 0, pixels[..., 3].reshape(-1))


def picture_size(rng: Rng) -> tuple[int, int]:
    """96 to 320 pixels; half of them square, the others up to twice as long as wide."""
    width = int(rng.integers(96, 321))
    if rng.random() < 0.5:
        return width, width
    return width, int(np.clip(width * 2 ** rng.uniform(-1, 1), 96, 320))


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
    return image.resize(fitted(image.size, side), Image.Resampling.LANCZOS)


def single(image: Image.Image, name: str, rng: Rng) -> tuple[Image.Image, Scene]:
    """One drawing, a little turned. A third of the pictures have its own proportions; of the others
    60% are nearly filled by it, in 40% it is smaller and anywhere."""
    if rng.random() < 0.5:
        image = image.rotate(rng.normal(0, 4), Image.Resampling.BICUBIC, expand=True)
        image = image.crop(image.getchannel("A").getbbox() or (0, 0, *image.size))
    size, drawn, anywhere = _trimmed(image, rng) if rng.random() < TRIMMED else _free(image, rng)
    canvas = background(size, rng)
    slack = (size[0] - drawn.width, size[1] - drawn.height)
    if anywhere:
        left, top = (int(rng.integers(0, max(1, s + 1))) for s in slack)
    else:
        left, top = slack[0] // 2, slack[1] // 2
    canvas.paste(drawn, (left, top), drawn)
    box = (left, top, left + drawn.width, top + drawn.height)
    return weathered(canvas, rng), Scene(size, (Placed(name, "", box),))


def _trimmed(image: Image.Image, rng: Rng) -> tuple[tuple[int, int], Image.Image, bool]:
    """A page little larger than the drawing, the drawing, and that it stands in the middle."""
    drawn = fit(image, int(rng.integers(90, 301)))
    margin = round(max(drawn.size) * max(0.0, rng.uniform(-0.04, 0.06)))
    width, height = (max(12, length + 2 * margin) for length in drawn.size)
    return (width, height), drawn, False


def _free(image: Image.Image, rng: Rng) -> tuple[tuple[int, int], Image.Image, bool]:
    """A page of any proportions, the drawing, and whether it may stand anywhere."""
    size = picture_size(rng)
    share = rng.uniform(0.82, 0.98) if rng.random() < 0.6 else rng.uniform(0.4, 0.85)
    drawn = fit(image, max(8, round(share * min(size))))
    return size, drawn, share <= 0.82


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

    @property
    def who(self) -> Who:
        """Name and colour."""
        return self.name, self.colour


def shape_actor(shape: Shape, rng: Rng) -> Actor:
    """A plain shape as an actor."""
    return Actor(shape.kind, shape.colour, draw_shape(shape, 90, rng))


def compose_scene(
    actors: Sequence[Actor], rng: Rng, scales: Sequence[float] | None = None
) -> tuple[Image.Image, Scene]:
    """Actors without overlap, scattered or on a loose grid, of sizes by ``scales`` if these are
    given (`zoo.layouts`)."""
    where = spread([actor.image.size for actor in actors], rng, scales)
    canvas = background_for(where.page, actors, rng)
    for actor, box in zip(actors, where.boxes, strict=True):
        size = (box[2] - box[0], box[3] - box[1])
        drawn = actor.image.resize(size, Image.Resampling.LANCZOS)
        canvas.paste(drawn, box[:2], drawn)
    placed = (Placed(a.name, a.colour, box) for a, box in zip(actors, where.boxes, strict=True))
    return weathered(canvas, rng), Scene(where.page, tuple(placed))
