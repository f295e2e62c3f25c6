"""``--limit NAME=VALUE``: what an operator writes is kept, or the server does not start."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from neva.errors import NevaError
from neva.server.limit_words import NAMES, OPTIONS, limits_with
from neva.server.settings import Limits


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("body_bytes=8MiB", "body_bytes", 8 * 2**20),
        ("body_bytes=1.5 KB", "body_bytes", 1500),
        ("file_bytes=500000", "file_bytes", 500_000),
        ("images=4", "images", 4),
        ("answer_seconds=0.5", "answer_seconds", 0.5),
        ("messages=16384", "messages", 16_384),
    ],
)
def test_one_limit_and_no_other(word: str, name: str, value: float) -> None:
    found = limits_with([word], Limits(running=3))
    assert found == replace(Limits(running=3), **{name: value})
    assert type(getattr(found, name)) is type(getattr(Limits(), name))


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("body_byte=1", "body_bytes, body_seconds"),
        ("images", "give NAME=VALUE"),
        ("images=0", "positive"),
        ("images=-1", "positive"),
        ("images=1.5", "whole number"),
        ("images=4MiB", "positive number"),
        ("images=٣", "positive number"),
        ("body_bytes=8 bananas", "8MiB"),
        ("answer_seconds=1" + "0" * 400, "positive number"),
        ("messages=16385", "16,384"),
        ("running=8", "--max-running 8"),
        ("waiting=8", "--max-waiting 8"),
    ],
)
def test_what_cannot_be_is_told(word: str, told: str) -> None:
    with pytest.raises(NevaError, match=re.escape(told)):
        limits_with([word], Limits())
    with pytest.raises(NevaError, match="twice"):
        limits_with(["images=1", "images=2"], Limits())


def test_every_limit_has_its_word_and_its_row() -> None:
    assert {*NAMES, *OPTIONS} == {one.name for one in fields(Limits)}
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{name}` |" in page
