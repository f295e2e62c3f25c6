"""Kinds of wrong names: each answer is of one kind, the nearest that holds."""

from pathlib import Path

import pytest
from zoo.wrong import KINDS, MEANING, Names, frequent, unsure

from neva.evaluate import TASKS, Item, Judged

OPENMOJI = TASKS["openmoji"]


def item(name: str, group: str, *keywords: str) -> Item:
    return Item(name, "What is this?", Path("x.png"), (name, *keywords), "emoji", {"group": group})


ITEMS = [
    item("red apple", "food", "fruit", "healthy"),
    item("pear", "food", "fruit"),
    item("bread", "food", "loaf"),
    item("cat face", "animals", "kitty", "pet"),
    item("flag: Chad", "flags"),
]
NAMES = Names.of(ITEMS)


def judged(one: Item, answer: str) -> Judged:
    return Judged(one, answer, *OPENMOJI.judge(one, answer))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("a red apple", "the name"),
        ("It is fruit.", "another name"),
        ("I am not sure.", "not sure"),
        ("  ", "nothing"),
        ("green apple", "shared word"),
        ("healthy food", "near meaning"),
        ("pear", "near meaning"),  # pears and apples are both fruit
        ("loaf", "same group"),
        ("kitty", "another group"),
        ("spanner", "no name"),
    ],
)
def test_kind_of_an_answer(answer: str, kind: str) -> None:
    assert NAMES.kind(judged(ITEMS[0], answer)) == kind
    assert kind in KINDS and MEANING[kind]


def test_every_kind_is_explained() -> None:
    assert set(MEANING) == set(KINDS)


def test_small_words_do_not_make_answers_near() -> None:
    of = item("person with a hat", "people", "hat")
    names = Names.of([*ITEMS, of])
    assert names.kind(judged(of, "person with a cat face")) == "no name"


@pytest.mark.parametrize(
    ("answer", "is_unsure"),
    [
        ("I am not sure. I cannot see a clear object in this picture.", True),
        ("I'm not really sure what that is", True),
        ("I don’t know.", True),
        ("This looks like a photograph.", True),
        ("That is outside what I know.", True),
        ("The picture looks blank.", True),
        ("a knot", False),
        ("sure", False),
        ("photon", False),
        ("no entry", False),
    ],
)
def test_unsure(answer: str, is_unsure: bool) -> None:
    assert unsure(answer) is is_unsure


def test_frequent_wrong_answers_come_with_what_they_were_said_of() -> None:
    said = [judged(one, "pink circle") for one in ITEMS[:4]]
    said += [judged(ITEMS[4], "flag: Chad"), judged(ITEMS[0], "kitty")]
    first, second = frequent(said)
    assert (first.answer, first.times, first.things) == ("pink circle", 4, 4)
    assert first.groups == ("food", "animals")
    assert first.examples == ("red apple", "pear", "bread", "cat face")
    assert (second.answer, second.times) == ("kitty", 1)
