"""What is said of a thing whose own name is not sure, and of which drawings that is learnt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from zoo.clip_data import held_out
from zoo.clip_model import HEAD, NameHead
from zoo.drawings import Drawing
from zoo.everyday import EVERYDAY, said
from zoo.general import GENERAL_SHARE, general_of, general_word
from zoo.naming import answer_of
from zoo.revive import KEPT

YAK = Drawing("ox", "ox", ("animal", "bull", "taurus"), "animals-nature", "animal-mammal", "noto",
              "emoji", "Apache-2.0", "1f402")  # fmt: skip


@pytest.mark.parametrize(
    ("concept", "keywords", "group", "word"),
    [
        ("owl", ("animal", "bird", "wise"), "animals-nature", "bird"),
        ("man cook", ("chef", "man"), "people-body", "man"),
        ("family: man, boy", ("boy", "child", "family", "man"), "people-body", "family"),
        ("flag: Chad", ("flag", "td"), "flags", ""),
        ("clock", ("time",), "travel-places", ""),
        ("heart", ("heart", "love"), "symbols", ""),
    ],
)
def test_the_first_general_word_among_the_keywords(
    concept: str, keywords: tuple[str, ...], group: str, word: str
) -> None:
    assert general_word(concept, keywords, group) == word


def test_what_people_call_otherwise_is_an_emoji_by_another_name() -> None:
    known = set(NameHead.read(KEPT / HEAD).names)
    assert set(EVERYDAY) <= known
    assert not set(EVERYDAY) & set(EVERYDAY.values())  # nothing is called what is called otherwise
    beetle = replace(YAK, concept="lady beetle", keywords=("ladybug",))
    assert answer_of(beetle, np.random.default_rng(1)) == said("lady beetle") == "ladybug"
    assert said("ox") == "ox"


def drawings(count: int) -> list[Drawing]:
    return [replace(YAK, identifier=f"ox {number}") for number in range(count)]


def test_one_emoji_drawing_of_ten_is_kept_from_clip() -> None:
    assert 70 < sum(map(held_out, drawings(1000))) < 130
    assert not any(held_out(replace(one, kind="icon")) for one in drawings(1000))
    assert not any(held_out(replace(one, group="flags")) for one in drawings(1000))


def test_only_what_clip_never_saw_is_named_in_general_now_and_then() -> None:
    strange = next(one for one in drawings(100) if held_out(one))
    known = next(one for one in drawings(100) if not held_out(one))
    rng = np.random.default_rng(0)
    said = Counter(answer_of(strange, rng) for _ in range(2000))
    assert set(said) == {"ox", general_of(strange)} == {"ox", "animal"}
    assert said["animal"] / 2000 == pytest.approx(GENERAL_SHARE, abs=0.04)
    assert {answer_of(known, rng) for _ in range(200)} == {"ox"}
