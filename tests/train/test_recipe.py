"""Recipes: published values stand, bad values are refused with a remedy, JSON goes both ways."""

import dataclasses
import json
from itertools import pairwise

import pytest

from neva.train.recipe import Recipe, describe
from neva.train.recipes import COURSES, DEFAULTS, recipe
from neva.train.schedule import rate, total_steps


def test_every_field_explains_itself() -> None:
    for field in dataclasses.fields(Recipe):
        assert describe(field.name).endswith("."), field.name


@pytest.mark.parametrize("name", COURSES)
def test_every_recipe_has_both_stages_and_survives_json(name: str) -> None:
    for stage in ("pretrain", "finetune"):
        made = recipe(name, stage)
        assert made.stage == stage
        assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_published_values_of_llava_and_neva() -> None:
    first, second = recipe("llava-v1.5-7b", "pretrain"), recipe("llava-v1.5-7b", "finetune")
    assert (first.learning_rate, first.batch_size, first.warmup_ratio) == (1e-3, 256, 0.03)
    assert (second.learning_rate, second.batch_size, second.weight_decay) == (2e-5, 128, 0.0)
    neva = recipe("neva-llama2-7b", "pretrain")
    assert (neva.beta1, neva.beta2, neva.max_steps) == (0.9, 0.95, 2170)
    assert neva.learning_rate * neva.floor_ratio == pytest.approx(2e-5)
    assert COURSES["neva-22b"].shape.assumed and not COURSES["llava-v1-7b"].shape.assumed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0: use a rate above 0"),
        ({"batch_size": 0}, "at least 1 sample"),
        ({"row_tokens": 100}, "at least max_length, 2048"),
        ({"max_length": 4096}, "--row-tokens 4096"),
        ({"seed": -1}, "seed is -1: use a whole number from 0"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"lora": True}, "the LM is frozen in pretrain"),
        ({"precision": "fp16"}, "use auto, bf16 or fp32"),
    ],
)
def test_bad_values_come_with_a_remedy(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe(**values)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe fields.*learningrate"):
        Recipe.from_json({"learningrate": 1})
    with pytest.raises(ValueError, match="llava-v1"):
        recipe("llava-v9", "pretrain")


def test_published_parameter_counts() -> None:
    """Vicuna-7B has 6,738,415,616 weights, SmolLM2-135M 134,515,008."""
    assert COURSES["llava-v1.5-7b"].shape.language.parameters == 6_738_415_616
    assert COURSES["neva-nano"].shape.language.parameters == 134_515_008
    assert COURSES["llava-v1.5-7b"].shape.vision.parameters == 303_507_456


def test_the_rate_climbs_then_falls_to_the_floor() -> None:
    made = DEFAULTS["pretrain"].with_values(warmup_ratio=0.1, floor_ratio=0.01)
    shares = [rate(step, 100, made) for step in range(101)]
    assert shares[0] == pytest.approx(1 / 11)
    assert shares[10] == 1.0
    assert all(a < b for a, b in pairwise(shares[:11]))
    assert all(a > b for a, b in pairwise(shares[10:]))
    assert shares[100] == pytest.approx(0.01)


def test_steps_of_a_run() -> None:
    assert total_steps(558_128, recipe("llava-v1.5-7b", "pretrain")) == 2181
    assert total_steps(5, Recipe(batch_size=2, epochs=0.5)) == 2
    assert total_steps(5, Recipe(max_steps=7)) == 7
