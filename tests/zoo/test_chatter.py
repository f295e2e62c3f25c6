"""The base LM's own talk: what it is asked, and where its answers are cut."""

from pathlib import Path

import tiny_gallery
from zoo.chatter import OPENERS, SHORT_PROMPT, Talker, cut, prompts
from zoo.deck import Deck


def test_chatter_ends_with_a_sentence(tmp_path: Path) -> None:
    assert cut("One. Two thr", whole=False) == "One."
    assert cut(" One, two ", whole=True) == "One, two"
    tiny_gallery.build(tmp_path)
    deck = Deck.open(tmp_path)
    asked = prompts(deck, 4, 0)
    assert asked == prompts(deck, 4, 0) and len(set(asked)) == len(asked)
    assert asked[0].startswith("What is a")


def test_prompts_of_the_base_lm_are_short_and_whole() -> None:
    kept = ["How do I boil an egg?", "Write a short poem about rain."]
    left = ["Write a short summary of the following text: it rained.", "What?", "how do\nI go?"]
    assert [bool(SHORT_PROMPT.fullmatch(text)) for text in [*kept, *left]] == [True] * 2 + [
        False
    ] * 3
    assert all(opener[0].isupper() for opener in OPENERS)


def test_the_base_lm_talks_to_itself() -> None:
    """What `Talker` makes of sampled tokens, with a sampler that reads from a list."""
    talker = Talker.__new__(Talker)
    talker._sample = lambda texts, most, temperature=1.0: [  # type: ignore[method-assign]
        (f"best way to sleep {len(text)}?" if n % 2 else "way\n1. to", n % 4 < 3)
        for n, text in enumerate(texts)
    ]
    made = talker.prompts(5)
    assert len(set(made)) == 5 and all(SHORT_PROMPT.fullmatch(text) for text in made)
    assert talker.answers(["a", "b"]) == ["way\n1. to", f"best way to sleep {len(FRAMED) + 1}?"]


FRAMED = "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
