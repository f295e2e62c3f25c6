"""Soft accuracy: the short form equals the definition, asked set by set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.evaluate import Item
from neva.evaluate.normalise import normalise, normalise_text_vqa
from neva.evaluate.vqa_score import soft_accuracy
from neva.evaluate.vqav2 import TextVQA, VQAv2, flat, golds_of

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


def official(answer: str, given_answers: list[str]) -> float:
    """VQAEval: nothing but white space is cleaned where all annotators say the same."""
    said, golds = flat(answer), [flat(one) for one in given_answers]
    if len(set(golds)) > 1:
        said, golds = normalise(said), [normalise(one) for one in golds]
    return by_definition(said, golds)


@pytest.mark.parametrize(
    ("answer", "annotators", "credit"),
    [
        ("on table", ["on the table"] * 10, 0.0),
        ("on the table", ["on the table"] * 10, 0.0),  # LLaVA's submission drops the article
        ("on table", ["on the table"] * 9 + ["a table"], 1.0),
        ("Yes.", ["yes"] * 10, 1.0),  # and it cleans the answer
        ("Yes\n", ["yes "] * 10, 1.0),
        ("two", ["2"] * 10, 1.0),
        ("2", ["two"] * 10, 0.0),
    ],
)
def test_vqav2_is_the_official_evaluation_of_llavas_submission(
    answer: str, annotators: list[str], credit: float
) -> None:
    item = Item("1", "?", None, golds_of(annotators, "here"))
    assert VQAv2().judge(item, answer)[1] == credit
    assert official(normalise_text_vqa(answer), annotators) == credit


def test_textvqa_cleans_always() -> None:
    item = Item("1", "?", None, ("on the table",) * 10)
    assert TextVQA().judge(item, "on table")[1] == 1.0
