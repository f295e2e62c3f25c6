"""What is refused before it is read: text that can never fit is not tokenised to its end."""

import time
from pathlib import Path

import pytest

from neva.engine.admission import Admission, Limits
from neva.engine.protocol import Request, Sampling
from neva.errors import PromptError
from neva.model.checkpoint import Checkpoint
from neva.prompts.conversation import Conversation, ask, user


@pytest.fixture(scope="module")
def admission(tiny: Path) -> Admission:
    return Admission(Checkpoint.open(tiny), Limits(512, "the context"))


def request(conversation: Conversation) -> Request:
    return Request(conversation, (), Sampling(max_tokens=8))


@pytest.mark.parametrize("word", ["hello world, this is text. ", "a", "\U0001f600", "<image>"])
def test_a_long_text_is_refused_by_its_beginning(admission: Admission, word: str) -> None:
    text = word * (16_000_000 // len(word))
    begun = time.process_time()
    with pytest.raises(PromptError, match=r"of the prompt's 1\d,\d{3},\d{3} letters"):
        admission.admit(request(ask(text, images=0)))
    assert time.process_time() - begun < 2  # all of it takes minutes


def test_the_system_text_counts_too(admission: Admission) -> None:
    long = Conversation((user("Hi."),), system="word, " * 100_000)
    with pytest.raises(PromptError, match="shorten the conversation"):
        admission.admit(request(long))


def test_what_may_fit_is_counted_exactly(admission: Admission) -> None:
    fits = "".join(chr(97 + n % 26) for n in range(100))
    assert admission.admit(request(ask(fits, images=0))).ids
    with pytest.raises(PromptError, match="together"):
        admission.admit(request(ask("x y " * 1000, images=0)))


def test_half_a_surrogate_pair_in_a_long_text_is_told(admission: Admission) -> None:
    with pytest.raises(PromptError, match="surrogate"):
        admission.admit(request(ask("\ud800" * 100_000, images=0)))
