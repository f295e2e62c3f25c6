"""Comparisons of sizes are sorted by how common both things are."""

import pytest
from zoo.compared import by_common


@pytest.mark.parametrize(
    ("question", "common"),
    [
        ("Is the red circle larger than the dog?", 2),
        ("Is the clipboard smaller than the brown square?", 1),
        ("Which is larger, the clipboard or the sewing needle?", 0),
    ],
)
def test_both_kinds_are_read(question: str, common: int) -> None:
    assert by_common([{"question": question, "credit": 1.0}]) == {common: [1.0]}


def test_what_compares_nothing_is_left_out() -> None:
    assert by_common([{"question": "What is the largest object?", "credit": 0.0}]) == {}
