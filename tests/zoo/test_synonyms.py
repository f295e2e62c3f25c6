"""A stamp's caption and CLDR's name for the same thing."""

from __future__ import annotations

from zoo.judged import Result
from zoo.names import Emoji, EmojiNames
from zoo.synonyms import names_by_word, share

from neva.evaluate import Item, Judged

FLAGS = [Emoji(f"flag: {n}", (), "flags", "country-flag", n) for n in ("Türkiye", "Curaçao")]
NAMES = EmojiNames(
    [
        *FLAGS,
        Emoji("fire engine", ("engine", "fire truck", "truck"), "travel-places", "", "1f692"),
        Emoji("T-shirt", ("clothing", "shirt"), "objects", "", "1f455"),
        Emoji("shark", ("animal", "fish"), "animals-nature", "", "1f988"),
    ]
)


def result(*rows: tuple[str, str, float]) -> Result:
    judged = tuple(
        Judged(Item(gold, "What is this?", None, (gold,)), read, read, credit)
        for gold, read, credit in rows
    )
    return Result({"task": "stamps", "asked": {}}, (), judged)


def test_an_emojis_name_counts_where_the_caption_is_its_name_or_keyword() -> None:
    by_word = names_by_word(NAMES)
    assert share(result(("fire truck", "fire engine", 0.0)), by_word) == 100
    assert share(result(("fish", "sharks", 0.0)), by_word) == 100, "a plural counts as its singular"
    assert share(result(("t-shirt", "t shirt", 1.0)), by_word) == 100, "what was right stays right"


def test_a_keyword_is_no_answer_and_other_emoji_are_none() -> None:
    by_word = names_by_word(NAMES)
    assert share(result(("shark", "animal", 0.0), ("shark", "fire engine", 0.0)), by_word) == 0
    assert share(result(("anvil", "fire engine", 0.0)), by_word) == 0, "CLDR has no anvil"
