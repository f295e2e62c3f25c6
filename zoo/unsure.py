"""Pictures that hold nothing the model can know, and the honest answer.

Blank pages, noise, photographs (`zoo.snapshots`) and what these look like from afar: no flat areas,
no outlines, light that falls from one side, blur and grain. What is synthetic alone taught CLIP's
patches to tell 83 % of the test's photographs from drawings, with 27 photographs 98 %
(a linear probe; 0.4 % of OpenMoji's drawings are taken for photographs).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter

from zoo import phrasing as say
from zoo.records import Example, Turn
from zoo.relief import lit
from zoo.scenes import picture_size
from zoo.snapshots import Snapshots

Rng = np.random.Generator
Field = npt.NDArray[np.float64]
"""``(H, W)`` or, in colour, ``(H, W, 3)`` of about 0..255."""
Texture = Callable[[int, int, Rng], Field]
BLANK, NOISE, REAL = 0.1, 0.06, 0.55
"""Shares of blank pages, noise and photographs (if there are any); the rest looks like these."""


def nothing(rng: Rng, snapshots: Snapshots | None = None) -> tuple[Image.Image, str]:
    """A picture of nothing that can be known, and its description."""
    size = picture_size(rng)
    dice = rng.random()
    if dice < BLANK:
        return Image.new("RGB", size, _colour(rng, 120, 256)), say.BLANK
    if dice < BLANK + NOISE:
        noise = rng.uniform(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        return Image.fromarray(noise), say.NOISE
    if snapshots is not None and dice < BLANK + NOISE + REAL:
        return snapshots.view(rng), say.OUTSIDE
    return photograph_like(size, rng), say.OUTSIDE


def unsure_example(rng: Rng, snapshots: Snapshots | None = None) -> Example:
    """A picture of nothing, asked for its name and a description."""
    picture, said = nothing(rng, snapshots)
    turns: list[Turn] = [
        (say.name_question(rng).split("\n")[0], say.UNSURE),
        (say.pick(say.DESCRIBE, rng), said),
    ]
    return Example("unsure", tuple(turns if rng.random() < 0.7 else turns[::-1]), picture)


def photograph_like(size: tuple[int, int], rng: Rng) -> Image.Image:
    """One of the textures below, seen through a camera: uneven light, blur, grain, pale or grey."""
    width, height = size
    texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
    pixels = texture(height, width, rng)
    if pixels.ndim == 2:
        dark, light = rng.uniform(10, 110, 3), rng.uniform(120, 250, 3)
        share = _level(pixels)[..., None]
        pixels = dark * (1 - share) + light * share
    pixels = pixels * _light(height, width, rng)[..., None]
    vivid = 0.0 if rng.random() < 0.35 else rng.uniform(0.2, 1.0)
    pixels = pixels.mean(-1, keepdims=True) * (1 - vivid) + pixels * vivid
    pixels = pixels + rng.normal(0, rng.uniform(0, 9), (height, width, 1))
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.6)))


def clouds(height: int, width: int, rng: Rng) -> Field:
    """Noise with a photograph's spectrum, amplitude 1/f^a, in colours that go together."""
    flat = np.stack([fractal(height, width, rng) for _ in range(3)], -1)
    mixed = flat @ (np.eye(3) * 0.4 + rng.uniform(0.1, 0.7)) * rng.uniform(25, 60)
    return np.asarray(mixed + rng.uniform(60, 200, 3))


def fractal(height: int, width: int, rng: Rng, fall: float | None = None) -> Field:
    """Noise ``(H, W)`` of mean 0 and spread 1 whose amplitude falls with the frequency."""
    across, along = np.fft.fftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    power = rng.uniform(0.9, 1.7) if fall is None else fall
    falling = np.hypot(across, along).clip(1 / max(height, width)) ** -power
    layer = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * falling).real
    return np.asarray((layer - layer.mean()) / layer.std())


def ridges(height: int, width: int, rng: Rng) -> Field:
    """Edges through noise, as in rock, bark and cloth: folds, or steps with shading."""
    layer = fractal(height, width, rng)
    steps = np.floor(layer * rng.uniform(1, 3)) if rng.random() < 0.5 else np.abs(layer)
    return np.asarray(steps + 0.3 * fractal(height, width, rng))


def grain(height: int, width: int, rng: Rng) -> Field:
    """Fine texture of one size, as in grass, gravel and sand: noise of a band of frequencies."""
    across, along = np.fft.fftfreq(width)[None], np.fft.fftfreq(height)[:, None]
    stretch = np.exp(rng.normal(0, 0.5))
    frequency = np.hypot(across * stretch, along / stretch)
    band = np.exp(-((np.log(frequency + 1e-4) - np.log(rng.uniform(0.03, 0.2))) ** 2) / 0.5)
    layer = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * band).real
    return np.asarray(layer / layer.std() + 0.5 * fractal(height, width, rng))


def weave(height: int, width: int, rng: Rng) -> Field:
    """Bent stripes or a grid of tiles whose shades differ, as in walls, fabric and print."""
    y, x = _warped(height, width, rng)
    across, along = rng.uniform(3, 16, 2)
    columns = x * across + (np.floor(y * along) % 2) * 0.5 * (rng.random() < 0.5)
    shades = rng.normal(0, 1, (64, 64))
    tile = shades[np.floor(y * along).astype(int) % 64, np.floor(columns).astype(int) % 64]
    seams = (columns % 1 < 0.12) | (y * along % 1 < 0.12)
    if rng.random() < 0.4:
        tile, seams = np.sin(2 * np.pi * y * along), np.zeros_like(seams)
    return np.asarray(tile - seams * rng.uniform(-4, 4) + 0.6 * fractal(height, width, rng))


def lumps(height: int, width: int, rng: Rng) -> Field:
    """Soft bodies that overlap, each with its own light, before a blurred background."""
    y, x = _warped(height, width, rng)
    pixels = clouds(height, width, rng) * 0.5 + rng.uniform(20, 110, 3)
    for _ in range(int(rng.integers(2, 12))):
        centre, radius = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.06, 0.4, 2)
        u, v = (x - centre[0]) / radius[0], (y - centre[1]) / radius[1]
        away = np.sqrt(u**2 + v**2)
        edge = 1 / (1 + np.exp((away - 1) * rng.uniform(4, 30)))[..., None]
        lit = 1 + 0.5 * (u * rng.uniform(-1, 1) + v * rng.uniform(-1, 1)).clip(-1, 1)
        body = lit[..., None] * rng.uniform(20, 220, 3)
        pixels = pixels * (1 - edge) + edge * body
    return np.asarray(pixels + fractal(height, width, rng)[..., None] * rng.uniform(4, 18))


def land(height: int, width: int, rng: Rng) -> Field:
    """A sky that grows light towards a rough horizon, ridges before each other, a ground."""
    y = np.linspace(0, 1, height)[:, None]
    low, high = _colour(rng, 150, 250), _colour(rng, 60, 220)
    pixels = y[..., None] * np.array(low) + (1 - y[..., None]) * np.array(high)
    pixels = pixels + fractal(height, width, rng, 1.7)[..., None] * rng.uniform(2, 16)
    for depth in np.sort(rng.uniform(0.2, 0.95, int(rng.integers(1, 5)))):
        skyline = depth + fractal(2, width, rng, 1.3)[:1] * rng.uniform(0.01, 0.08)
        ground = np.array(_colour(rng, 20, 170)) + clouds(height, width, rng) * 0.25 - 30
        mask = (1 / (1 + np.exp(-(y - skyline) * rng.uniform(30, 200))))[..., None]
        pixels = pixels * (1 - mask) + ground * mask
    return np.asarray(pixels)


def figure(height: int, width: int, rng: Rng) -> Field:
    """A head and shoulders without a face, out of focus, before any background."""
    y, x = _warped(height, width, rng)
    pixels = (land if rng.random() < 0.5 else clouds)(height, width, rng)
    middle, top, size = rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.5), rng.uniform(0.1, 0.24)
    parts = ((top + 2.6 * size, 2.2, 1.6), (top - 0.1 * size, 1.15, 1.4), (top, 0.8, 1.1))
    for row, wide, high in parts:
        u, v = (x - middle) / (wide * size), (y - row) / (high * size)
        edge = 1 / (1 + np.exp((np.sqrt(u**2 + v**2) - 1) * rng.uniform(8, 30)))[..., None]
        lit = (1 + u * rng.uniform(-0.5, 0.5))[..., None].clip(0.4, 1.6)
        rough = 1 + 0.12 * fractal(height, width, rng)[..., None]
        pixels = pixels * (1 - edge) + edge * lit * rough * rng.uniform(30, 210, 3)
    return np.asarray(pixels)


def bodies(height: int, width: int, rng: Rng) -> Field:
    """One to four solid bodies of no thing under one lamp (`zoo.relief`), before any background."""
    pixels = (land, clouds, _plain)[int(rng.integers(3))](height, width, rng)
    blobs = np.stack([_blob(rng) for _ in range(int(rng.integers(1, 5)))])
    made = lit(torch.from_numpy(blobs), rng)
    for one in (made * 255).byte().permute(0, 2, 3, 1).numpy():
        wide, high = (int(side * rng.uniform(0.3, 0.95)) for side in (width, height))
        body = np.asarray(Image.fromarray(one, "RGBA").resize((wide, high)), np.float64)
        top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        part = pixels[top : top + high, left : left + wide]
        alpha = body[..., 3:] / 255
        part[:] = part * (1 - alpha) + body[..., :3] * alpha
    return pixels


def tube(height: int, width: int, rng: Rng) -> Field:
    """What a microscope, an eye's camera or a telescope shows: a round, rough field, darker towards
    its rim, before black or any one shade."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    u = x * width / min(height, width) - rng.normal(0, 0.12)
    v = y * height / min(height, width) - rng.normal(0, 0.12)
    away = np.hypot(u, v) / rng.uniform(0.6, 1.1)
    inside = (1 / (1 + np.exp((away - 1) * rng.uniform(20, 120))))[..., None]
    rough = fractal(height, width, rng)[..., None] * rng.uniform(8, 30)
    veins = np.abs(fractal(height, width, rng, 1.5))[..., None] * rng.uniform(0, 40)
    field = np.array(_colour(rng, 60, 240)) + rough - veins + clouds(height, width, rng) * 0.2
    field = field * (1 - rng.uniform(0, 0.6) * away[..., None] ** 2)
    dark = _plain(height, width, rng) if rng.random() < 0.3 else np.zeros_like(field)
    return np.asarray(field * inside + dark * (1 - inside))


def _blob(rng: Rng, side: int = 128) -> npt.NDArray[np.float32]:
    """A random outline in up to three colours ``(4, S, S)`` in 0..1, clear of the rim."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = 0.75 - np.hypot(x, y) + rng.uniform(0.05, 0.3) * fractal(side, side, rng, 2.2)
    alpha = (inside * side / 4).clip(0, 1) * (np.maximum(abs(x), abs(y)) < 0.97)
    colours = rng.uniform(0.1, 0.95, (3, 3))
    parts = np.digitize(fractal(side, side, rng, 1.7), np.sort(rng.normal(0, 1, 2)))
    return np.concatenate([colours[parts].transpose(2, 0, 1), alpha[None]]).astype(np.float32)


def _plain(height: int, width: int, rng: Rng) -> Field:
    """A wall or the dark: one shade that grows lighter to one side, a little rough."""
    shade = np.array(_colour(rng, 5, 160)) + fractal(height, width, rng, 1.7)[..., None] * 6
    return np.asarray(shade + np.linspace(0, rng.uniform(0, 70), height)[:, None, None])


TEXTURES: tuple[Texture, ...] = (
    clouds, ridges, grain, weave, lumps, lumps, land, land, figure, figure, bodies, bodies, bodies,
    tube, tube, tube,
)  # fmt: skip


def _warped(height: int, width: int, rng: Rng) -> tuple[Field, Field]:
    """Rows and columns ``(H, W)`` of 0..1, bent and turned a little."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    turn, bend = rng.normal(0, 0.3), rng.uniform(0, 0.04)
    u, v = x - 0.5, y - 0.5
    bent = [fractal(height, width, rng, 1.7) * bend for _ in range(2)]
    down = 0.5 + u * np.sin(turn) + v * np.cos(turn) + bent[0]
    return down, 0.5 + u * np.cos(turn) - v * np.sin(turn) + bent[1]


def _light(height: int, width: int, rng: Rng) -> Field:
    """Light ``(H, W)`` about 1: from one side, less at the corners."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = 1 + x * rng.uniform(-0.3, 0.3) + y * rng.uniform(-0.3, 0.3)
    return np.asarray(slope * (1 - rng.uniform(0, 0.3) * (x**2 + y**2) / 2))


def _level(values: Field) -> Field:
    """Scaled so that one in twenty is beyond either end of 0..1."""
    low, high = np.quantile(values, (0.05, 0.95))
    return np.asarray(((values - low) / max(1e-6, high - low)).clip(0, 1))


def _colour(rng: Rng, low: float, high: float) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.uniform(low, high, 3))
    return r, g, b
