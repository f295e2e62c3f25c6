"""Soft accuracy: the short form equals the definition, asked set by set."""

from hypothesis import given
from hypothesis import strategies as st

from neva.evaluate.vqa_score import soft_accuracy

ANSWERS = st.lists(st.sampled_from(["yes", "no", "maybe"]), min_size=1, max_size=12)


def by_definition(answer: str, given_answers: list[str]) -> float:
    """Leave each annotator out in turn."""
    total = 0.0
    for left_out in range(len(given_answers)):
        others = given_answers[:left_out] + given_answers[left_out + 1 :]
        total += min(others.count(answer) / 3, 1.0)
    return total / len(given_answers)


@given(st.sampled_from(["yes", "no", "other"]), ANSWERS)
def test_equals_the_definition(answer: str, given_answers: list[str]) -> None:
    assert abs(soft_accuracy(answer, given_answers) - by_definition(answer, given_answers)) < 1e-12


def test_known_values() -> None:
    ten = ["blue"] * 2 + ["red"] * 8
    assert abs(soft_accuracy("blue", ten) - 0.6) < 1e-12  # the well-known 0.6 of two in ten
    assert soft_accuracy("red", ten) == 1.0
    assert soft_accuracy("green", ten) == 0.0
    assert soft_accuracy("red", []) == 0.0
