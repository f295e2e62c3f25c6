"""Tokens to text: streamed = whole."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llava import byte_tokenizer
from tokenizers import Tokenizer

from neva.engine.decode import AnswerText


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
