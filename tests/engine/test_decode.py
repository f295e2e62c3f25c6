"""Tokens to text: streamed = whole."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llava import byte_tokenizer
from tokenizers import Tokenizer, decoders, models

from neva.engine.decode import AnswerText
from neva.engine.vocabulary import byte_letters


def tokenizer(folder: Path) -> Tokenizer:
    byte_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_streamed_is_whole(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)

    @settings(deadline=None)  # the machine may be busy
    @given(st.text(max_size=20))
    def check(text: str) -> None:
        ids = made.encode(text, add_special_tokens=False).ids
        answer = AnswerText(made, (), strip=False)
        pieces = [answer.feed([token]) for token in ids]
        assert "".join(pieces) + answer.flush() == made.decode(ids)
        assert "\ufffd" not in "".join(pieces) or "\ufffd" in text

    check()


def test_bytes_that_are_no_characters_do_not_break_the_stream(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)

    @settings(deadline=None)  # the machine may be busy
    @given(st.lists(st.integers(3, made.get_vocab_size() - 1), max_size=30))
    def check(ids: list[int]) -> None:
        answer = AnswerText(made, (), strip=False)
        text = "".join(answer.feed([token]) for token in ids) + answer.flush()
        plain = [i for i in ids if made.id_to_token(i) != "<image>"]
        assert text.replace("\ufffd", "") == made.decode(plain).replace("\ufffd", "")

    check()


def test_white_space_that_the_template_leads_with_is_left_out(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    answer = AnswerText(made, ("!",), strip=True)
    ids = made.encode(" \n Hi there! More", add_special_tokens=False).ids
    pieces = [answer.feed([token]) for token in ids]
    assert "".join(pieces) == "Hi there"
    assert answer.stopped


def of_bytes(*tokens: bytes) -> Tokenizer:
    """A byte-level tokenizer: 256 single bytes, and these from 256 on."""
    letters = {byte: letter for letter, byte in byte_letters().items()}
    singles = (bytes([byte]) for byte in range(256))
    words = ["".join(letters[byte] for byte in token) for token in (*singles, *tokens)]
    made = Tokenizer(models.BPE({word: id for id, word in enumerate(words)}, []))
    made.decoder = decoders.ByteLevel()
    return made


HALVES = of_bytes(
    "о".encode() + "ж".encode()[:1],  # a whole character and half of another
    "ж".encode()[1:] + "о".encode(),
    b"M" + "😀".encode()[:3],
    "😀".encode()[3:],
    "оо".encode(),
)


def said(ids: list[int]) -> str:
    answer = AnswerText(HALVES, (), strip=False)
    return "".join(answer.feed([token]) for token in ids) + answer.flush()


def test_at_the_end_only_the_half_character_is_lost() -> None:
    assert said([*b"M", 256]) == "Mо"
    assert said([*b"M", 256, 257, 258]) == "MожоM"
    assert said([256, 256]) == "о\ufffdо"
    assert said([*"ж".encode()[:1]]) == ""


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from([*b"aM \n\xd0\xbe\xf0\x9f", *range(256, 261)]), max_size=12))
def test_no_whole_character_is_lost(ids: list[int]) -> None:
    assert said(ids).replace("\ufffd", "") == HALVES.decode(ids).replace("\ufffd", "")


def test_a_whole_character_at_the_end_may_complete_a_stop_string() -> None:
    answer = AnswerText(HALVES, ("о",), strip=False)
    assert (answer.feed([*b"M", 256]), answer.flush(), answer.stopped) == ("M", "", True)
