"""Letters, digits and signs: drawn whole, named once, and known to CLIP's memory of names."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from test_words import sized_clip
from torch import nn
from zoo.clip_model import NameHead
from zoo.glyph_records import SAID, WHICH, glyph_examples
from zoo.glyphs import CHESS, GLYPHS, MARKED, MUSIC, OF_THEIR_OWN, Typefaces
from zoo.mosaics import GRID
from zoo.sources import SOURCES, TRAINING_LICENCES
from zoo.spelling import plain
from zoo.word_views import boxed, glyphs
from zoo.words import called, keyed

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture
def typefaces() -> Typefaces:
    sans = FONTS / "DejaVuSans.ttf"  # has chess and some of music's signs
    own = dict.fromkeys(OF_THEIR_OWN.values(), sans)
    return Typefaces((FONTS / "DejaVuSans-Bold.ttf", FONTS / "DejaVuSerif.ttf"), own)


def test_every_name_is_drawn_and_can_be_seen(typefaces: Typefaces) -> None:
    rng = np.random.default_rng(0)
    for name in GLYPHS:
        glyph = typefaces.draw(name, rng)
        ink = np.asarray(glyph.image.getchannel("A")) > 128
        assert ink.any(), name
        assert max(glyph.image.size) < 400, "cut off by the canvas"


def test_a_letter_bears_one_name_in_both_cases_and_begins_with_itself() -> None:
    assert GLYPHS["letter Q"] == "Qq"
    assert plain("letter q") == plain("letter Q") == "Q letter"
    assert plain("letter O with an umlaut") == "O with an umlaut letter"
    assert plain("letter box") == "letter box"
    latin = [name for name in GLYPHS if name not in MARKED | MUSIC | CHESS]
    assert len({c for name in latin for c in GLYPHS[name]}) == 52 + 10 + 15


def test_no_character_bears_two_names() -> None:
    said = [c for characters in GLYPHS.values() for c in characters]
    assert len(said) == len(set(said))
    assert GLYPHS["chess pawn"] == "\N{WHITE CHESS PAWN}\N{BLACK CHESS PAWN}"
    assert GLYPHS["eighth rest"] == "\N{MUSICAL SYMBOL EIGHTH REST}"


def test_signs_of_music_and_chess_have_typefaces_of_their_own(typefaces: Typefaces) -> None:
    rng = np.random.default_rng(3)
    assert {typefaces.file_of(name, rng).name for name in (*MUSIC, *CHESS)} == {"DejaVuSans.ttf"}
    assert {typefaces.file_of("zero", rng) for _ in range(50)} == set(typefaces.files)
    assert [g.name for g in typefaces.each(2, rng)][:4] == ["letter A"] * 2 + ["letter B"] * 2


def test_records_ask_what_it_is(typefaces: Typefaces) -> None:
    made = glyph_examples(typefaces, 200, np.random.default_rng(1))
    read = {question: answer for e in made for question, answer in e.turns if question in
            {q for some in WHICH.values() for q in some}}  # fmt: skip
    assert {e.turns[0][1] for e in made} == {SAID.get(name, name) for name in GLYPHS}
    games = {e.turns[0][1] for e in made if ("chess" in dict(e.turns).values())}
    assert games and games <= {"king", "queen", "rook", "bishop", "knight", "pawn"}
    assert read and all(len(answer) == 1 for answer in read.values())
    kinds = {answer for e in made for question, answer in e.turns if " or a " in question}
    assert kinds == {"a letter", "a digit"}


def test_patches_in_the_box_are_asked() -> None:
    """A picture 60 wide and 120 high, padded to a square: its columns are the middle three."""
    asked = boxed((0, 0, 60, 40), (60, 120)).view(GRID, GRID)
    inside = [[row, column] for row in (0, 1, 2) for column in (2, 3, 4, 5)]
    assert asked.nonzero().tolist() == inside
    assert boxed((2, 2, 126, 126), (128, 128)).all()
    assert boxed((50, 50, 51, 51), (128, 128)).sum() == 1


def test_pictures_of_glyphs_are_asked_for_their_names(typefaces: Typefaces) -> None:
    tower = sized_clip(128, 16).vision_model
    pictures = glyphs(tower, typefaces, 2 * len(GLYPHS), 0)
    assert len(pictures.states) == 2 * len(GLYPHS)
    assert set(pictures.texts) == {plain(name) for name in GLYPHS}
    assert ((pictures.asked >= 0).sum(1) > 0).all()


def test_glyphs_get_a_unit_of_the_memory() -> None:
    names = ("letter a", "red star", "dog", "number one", "digit one", "asterisk", "letter box")
    head = NameHead(names, torch.eye(7), nn.LayerNorm(7), nn.Linear(7, 7))
    texts = ["A letter", "one", "asterisk", "red star", "dog"]
    assert keyed(head, ["dog"], texts) == [2, 0, 3, 5, 1]
    assert [called(name) for name in names[:5]] == ["letter A", *names[1:3], "one", "digit one"]


def test_typefaces_may_be_trained_on() -> None:
    fonts = [source for source in SOURCES if source.kind == "font"]
    assert len(fonts) > 25
    assert all(source.licence in TRAINING_LICENCES for source in fonts)
