"""Emoji that come as pictures, named by their codepoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from zoo.artists import shaded_jobs
from zoo.drawings import SIZE, render
from zoo.names import Emoji, EmojiNames
from zoo.sources import source

OX = Emoji("ox", ("animal",), "animals-nature", "animal-mammal", "1f402")
FLAGS = [Emoji(f"flag: {n}", (), "flags", "country-flag", n) for n in ("Türkiye", "Curaçao")]
TONE = Emoji("light skin tone", (), "component", "skin-tone", "1f3fb")


def test_pictures_are_found_by_codepoint_and_cropped(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    picture = np.zeros((256, 256, 4), np.uint8)
    picture[20:60, 100:240] = (200, 30, 40, 255)
    for code in ("1f402", "1f402-1f3fb", "1f3fb", "1f600"):
        Image.fromarray(picture).save(tmp_path / "assets" / f"{code}.webp", lossless=True)
    item = source("fluent-emoji-3d")
    [(drawing, art)] = shaded_jobs(item, tmp_path, EmojiNames([OX, TONE, *FLAGS]))
    assert (drawing.concept, drawing.keywords, drawing.kind) == ("ox", ("animal",), "emoji")
    assert (drawing.set_name, drawing.licence) == ("fluent-emoji-3d", "MIT")
    pixels = render(art)
    assert pixels is not None and pixels.shape == (SIZE, SIZE, 4)
    wide, high = ((pixels[..., 3].max(axis) > 128).sum() for axis in (0, 1))
    assert abs(wide - SIZE / 1.06) < 3 and abs(high - SIZE / 1.06 * 40 / 140) < 3
    assert (pixels[SIZE // 2, SIZE // 2, :3] == (200, 30, 40)).all()


def test_an_empty_picture_is_left_out(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64)).save(tmp_path / "x.webp")
    assert render(tmp_path / "x.webp") is None
