"""Which is larger: true by the boxes, balanced form by form, and small things are seen too."""

from collections import Counter

import numpy as np
import pytest
from paper_deck import paper_deck
from zoo.balance import Balance
from zoo.casting import Casting
from zoo.scene_questions import View
from zoo.scene_records import ScenePlan, SceneWriter, scene_examples
from zoo.scenes import Placed, Scene
from zoo.size_questions import (
    OPPOSITE,
    RATIOS,
    extreme,
    how_large,
    of_all,
    scales,
    whether,
    which,
)

CAT = Placed("cat", "", (10, 10, 110, 60))
DOG = Placed("dog", "", (140, 12, 180, 52))
RING = Placed("ring", "red", (12, 150, 62, 190))
SCENE = Scene((200, 200), (DOG, CAT, RING))
EQUAL = Scene((200, 200), (DOG, RING))


@pytest.fixture(scope="module")
def casting() -> Casting:
    return Casting(paper_deck())


def view(casting: Casting, scene: Scene, seed: int, balance: Balance | None = None) -> View:
    return View(scene, casting, balance or Balance(), np.random.default_rng(seed))


def named(question: str) -> list[Placed]:
    there = [o for o in SCENE.objects if o.phrase in question]
    return sorted(there, key=lambda o: question.index(o.phrase))


@pytest.mark.parametrize("way", OPPOSITE)
def test_whether_is_true_and_as_often_yes_as_no(casting: Casting, way: str) -> None:
    balance = Balance()
    for seed in range(40):
        asked = whether(way)(view(casting, SCENE, seed, balance))
        assert asked is not None
        balance.tell(asked)
        one, other = named(asked.question)
        longer = one.length > other.length
        assert (longer == (way == "larger")) == (asked.answer == "yes")
        assert CAT in (one, other)  # dog and ring are too much alike
    assert len(set(balance.told.values())) == 1


@pytest.mark.parametrize("way", OPPOSITE)
def test_which_of_two_is_true_wherever_it_is_named(casting: Casting, way: str) -> None:
    places: Counter[int] = Counter()
    for seed in range(60):
        asked = which(way)(view(casting, SCENE, seed))
        assert asked is not None
        pair = named(asked.question)
        end = max if way == "larger" else min
        answer = end(pair, key=lambda o: o.length)
        assert asked.answer == answer.phrase
        places[pair.index(answer)] += 1
    assert min(places[0], places[1]) > 18


def test_only_what_is_clear_is_asked(casting: Casting) -> None:
    assert extreme(SCENE, "larger") == CAT
    assert extreme(SCENE, "smaller") is None  # dog and ring are alike
    asked = of_all("larger")(view(casting, SCENE, 1))
    assert asked is not None and asked.answer == "cat"
    for way in OPPOSITE:
        for form in (whether, which, of_all):
            assert form(way)(view(casting, EQUAL, 1)) is None


def test_large_and_small_are_shares_of_the_picture(casting: Casting) -> None:
    balance, told = Balance(), {}
    dot = Placed("dot", "blue", (150, 150, 170, 170))
    scene = Scene((200, 200), (CAT, DOG, RING, dot))
    for seed in range(20):
        asked = how_large(view(casting, scene, seed, balance))
        assert asked is not None
        balance.tell(asked)
        told[asked.about] = asked.answer
    assert told == {"size of cat": "large", "size of blue dot": "small"}
    assert balance.told["size of", "large"] == balance.told["size of", "small"] == 10
    assert how_large(view(casting, EQUAL, 1)) is None  # neither large nor small


def test_one_is_of_another_size_than_the_rest() -> None:
    for seed in range(50):
        made = scales(4, np.random.default_rng(seed))
        counted = Counter(made)
        assert sorted(counted.values()) == [1, 3]
        assert RATIOS[0] <= max(made) / min(made) <= RATIOS[1]


def test_records_of_sizes_ask_about_sizes(casting: Casting) -> None:
    writer = SceneWriter(casting, np.random.default_rng(3))
    made = [writer.sized() for _ in range(60)]
    first = [one.turns[0][0] for one in made]
    assert sum("er" in question for question in first) > 10  # larger, smaller, bigger
    assert any(answer == "large" for one in made for _, answer in one.turns)
    told = Counter(answer for one in made for _, answer in one.turns)
    assert abs(told["yes"] - told["no"]) < 10
    assert all(one.kind == "sizes" and one.picture is not None for one in made)


def test_other_records_are_what_they_were(casting: Casting) -> None:
    plan = {"places": 3, "sides": 2, "crowds": 2, "reasoning": 2, "mixed": 3, "riddles": 2}
    before = scene_examples(casting, ScenePlan(**plan), np.random.default_rng(5))
    after = scene_examples(casting, ScenePlan(**plan, sizes=4), np.random.default_rng(5))
    assert [one.turns for one in before] == [one.turns for one in after[: len(before)]]
    assert [one.kind for one in after[len(before) :]] == ["sizes"] * 4
