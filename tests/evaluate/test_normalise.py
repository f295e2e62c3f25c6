"""The VQA challenge's normalisation, case by case and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.evaluate.normalise import CONTRACTIONS, lacking, normalise, normalise_text_vqa


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Yes.", "yes"),
        ("  The Cat\n", "cat"),
        ("two", "2"),
        ("none", "0"),
        ("a red, round ball", "red round ball"),
        ("red,blue", "red blue"),  # no space beside the comma: words must not join
        ("100,978", "100978"),  # but digits do
        ("3.5", "3.5"),  # a decimal point stays
        ("e.g. this", "eg this"),
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        ("dont know", "don't know"),
        ("its a dog", "its dog"),
        ("y'allll", "y'all'll"),
        ("somebody'd", "somebodyd"),  # the challenge's own slip
        ("yes/no", "yes no"),
        ("t-shirt", "t shirt"),
        ("", ""),
        ("the", ""),
    ],
)
def test_golden(text: str, clean: str) -> None:
    assert normalise(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [("red,blue", "redblue"), ("Levi's", "levi 's"), ("who?me", "whome"), ("The One", "1")],
)
def test_text_vqa_golden(text: str, clean: str) -> None:
    assert normalise_text_vqa(text) == clean


def test_contractions_get_their_apostrophe_back() -> None:
    for word in CONTRACTIONS.split():
        assert word.count("'") in (1, 2, 3)
        for bare in lacking(word):
            assert normalise(bare) == word


@given(st.text(alphabet="abAthe 12.,-?!'\n\t:;(", max_size=30))
def test_has_no_loose_ends(text: str) -> None:
    clean = normalise(text)
    assert clean == clean.strip() == clean.lower()
    assert not {"a", "an", "the"} & set(clean.split())
    assert not any(mark in clean for mark in ",-?!;(\n\t")


@given(st.text(alphabet="abcdeh ", max_size=30))
def test_plain_words_settle_at_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
