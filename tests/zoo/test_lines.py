"""Line art: what a line encloses is filled, names of some years ago are found, fonts are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from zoo.drawings import render
from zoo.lines import COLOURED, colour_in, glyphs
from zoo.names import Emoji, EmojiNames
from zoo.sources import NEVER_TRAINED_ON, training_sets

RED = (200, 30, 40, 255)


def ring(size: int = 48) -> np.ndarray:
    """A black square outline, four pixels wide, in the middle of nothing."""
    line = np.zeros((size, size, 4), np.uint8)
    line[8:-8, 8:-8, 3] = 255
    line[12:-12, 12:-12, 3] = 0
    return line


def test_what_a_line_encloses_gets_the_colour_that_the_other_drawing_has_there() -> None:
    line = ring()
    colours = np.zeros_like(line)
    colours[10:-10, 10:-10] = RED
    filled = colour_in(line, colours)
    assert tuple(filled[24, 24]) == RED
    assert tuple(filled[9, 24]) == (0, 0, 0, 255)  # the outline stays
    assert not filled[:8, :, 3].any() and not filled[-8:, :, 3].any()  # and so does the outside


def test_a_region_that_the_other_drawing_leaves_empty_stays_empty() -> None:
    line = ring()
    colours = np.zeros_like(line)
    colours[12:20, 12:-12] = RED  # a third of it
    assert colour_in(line, colours) is line


def test_each_region_has_a_colour_of_its_own() -> None:
    line = ring()
    line[22:26, 8:-8, 3] = 255  # two rooms
    colours = np.zeros_like(line)
    colours[8:24, 8:-8] = RED
    colours[24:-8, 8:-8] = (0, 0, 255, 255)
    filled = colour_in(line, colours)
    assert tuple(filled[16, 24]) == RED
    assert tuple(filled[30, 24]) == (0, 0, 255, 255)


def test_lines_and_colours_are_rendered_into_one_drawing() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{}</svg>'
    circle = '<circle cx="50" cy="50" r="40" fill="{}" stroke="{}" stroke-width="8"/>'
    line, flat = (
        svg.format(circle.format("none", "#000")),
        svg.format(circle.format("#0a0", "#0a0")),
    )
    drawn = render((line, flat))
    assert drawn is not None and tuple(drawn[48, 48]) == (0, 170, 0, 255)
    solid = svg.format(circle.format("#000", "#000"))
    assert render((solid, flat)) is None  # nothing to colour in
    assert render((line, svg.format(""))) is None


def test_names_of_some_years_ago_are_found() -> None:
    now = [
        "bear",
        "cat with wry smile",
        "bullseye",
        "flag: Türkiye",
        "flag: Curaçao",
        "mage",
        "dog face",
        "plus",
    ]
    names = EmojiNames([Emoji(label, (), "", "", str(i)) for i, label in enumerate(now)])
    once = {"bear face": "bear", "cat face with wry smile": "cat with wry smile", "plus": "plus",
            "direct hit": "bullseye", "person mage": "mage", "dog face": "dog face",
            "heavy plus": "plus"}  # fmt: skip
    found = {words: names.find_older(words) for words in once}
    assert {words: e.label for words, e in found.items() if e} == once
    assert names.find_older("amazed face") is None


def test_a_font_that_is_split_into_files_gives_each_character_once(tmp_path: Path) -> None:
    pen = TTGlyphPen(None)
    for step, point in enumerate([(100, 0), (100, 500), (600, 500), (600, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    (tmp_path / "files").mkdir()
    for part in ("0", "1"):
        font = FontBuilder(1000)
        font.setupGlyphOrder([".notdef", "box", "space"])
        font.setupCharacterMap({0x1F4E6: "box", 0x20: "space"})
        font.setupGlyf({".notdef": empty, "box": square, "space": empty})
        font.setupHorizontalMetrics(dict.fromkeys((".notdef", "box", "space"), (700, 0)))
        font.setupHorizontalHeader()
        font.font.flavor = "woff"
        font.save(tmp_path / "files" / f"emoji-{part}-400-normal.woff")
    (code, svg), *more = glyphs(tmp_path)
    assert (code, more) == ("1f4e6", [])
    drawn = render(svg)
    assert drawn is not None and drawn[10:-10, 10:-10, 3].min() == 255


def test_no_judge_lends_lines_or_colours() -> None:
    sets = {s.set_name: s for s in training_sets()}
    assert {s.set_name for s in sets.values() if s.kind == "line"} == set(COLOURED)
    assert set(COLOURED.values()) <= set(sets)
    assert not {s.name for s in sets.values()} & set(NEVER_TRAINED_ON)
