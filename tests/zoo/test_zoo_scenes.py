"""Answers about scenes follow from the geometry."""

import numpy as np
import pytest
from PIL import Image
from zoo.captions import scene_caption
from zoo.reasoning import odd_one_out, reasoning_turns
from zoo.scene_questions import count_turns, presence_turns, scene_turns, side_turns, what_turns
from zoo.scenes import Actor, Placed, Scene, compose_scene, side_of, single, third_of

CAT = Placed("cat", "", (10, 10, 50, 50))
DOG = Placed("dog", "", (140, 12, 180, 52))
RING = Placed("ring", "red", (12, 150, 52, 190))
SCENE = Scene((200, 200), (DOG, CAT, RING))


KINDS = {
    "cat": ("animals-nature", "animal-mammal"),
    "dog": ("animals-nature", "animal-mammal"),
    "owl": ("animals-nature", "animal-bird"),
    "pear": ("food-drink", "food-fruit"),
}


def known(name: str) -> tuple[str, str]:
    """As a deck's `kind_of`."""
    return KINDS.get(name, ("", ""))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_sides() -> None:
    assert side_of(CAT, DOG) == ("left", "")
    assert side_of(DOG, CAT) == ("right", "")
    assert side_of(RING, CAT) == ("", "below")
    assert side_of(CAT, RING) == ("", "above")
    assert side_of(RING, DOG) == ("left", "below")


def test_order_and_thirds() -> None:
    assert [o.name for o in SCENE.by_x()] == ["cat", "ring", "dog"]
    assert [o.name for o in SCENE.by_y()] == ["cat", "dog", "ring"]
    assert third_of(SCENE, CAT) == "top left"
    assert third_of(SCENE, RING) == "bottom left"
    assert third_of(SCENE, Placed("x", "", (90, 90, 110, 110))) == "centre"


def test_counts(rng: np.random.Generator) -> None:
    twins = Scene((200, 200), (CAT, Placed("cat", "", (100, 100, 140, 140))))
    turns = count_turns(twins, rng)
    assert [a for _, a in turns] == ["2", "2"]
    assert "cat" in turns[1][0]


@pytest.mark.parametrize("seed", range(20))
def test_side_answers_are_true(seed: int) -> None:
    opposite = {"left": "right", "above": "below"}
    for question, answer in side_turns(SCENE, np.random.default_rng(seed)):
        by_name = {o.phrase: o for o in SCENE.objects}
        first, second = sorted((n for n in by_name if n in question), key=question.index)
        one, other = by_name[first], by_name[second]
        true = side_of(one, other)
        if answer in ("yes", "no"):
            asked = next(
                w
                for w in ("left", "right", "above", "below")
                if f" {w} " in question or f"the {w} of" in question
            )
            assert (asked in true) == (answer == "yes"), question
        else:
            assert answer in true and answer in (*opposite, *opposite.values())

    assert side_turns(Scene((9, 9), (CAT,)), np.random.default_rng(seed)) == []


def test_what_is_where(rng: np.random.Generator) -> None:
    answers = dict(what_turns(SCENE, rng))
    assert answers["What objects are in the picture, from left to right?"] == "cat, red ring, dog"
    assert answers["What color is the ring?"] == "red"
    assert answers["Where is the dog?"] == "top right"
    right = {"What is on the right?", "What is the rightmost object?"} & set(answers)
    assert right and answers[right.pop()] == "dog"
    # cat and ring stand above each other, so there is no leftmost object to ask for
    assert not {"What is on the left?", "What is the leftmost object?"} & set(answers)


def test_presence(rng: np.random.Generator) -> None:
    (there, yes), (absent, no), *_ = presence_turns(SCENE, "hat", rng)
    assert yes == "yes" and no == "no" and "hat" in absent and "hat" not in there


def test_caption_names_every_object(rng: np.random.Generator) -> None:
    text = scene_caption(SCENE, rng)
    assert all(o.phrase in text for o in SCENE.objects)


def test_turns_have_no_question_twice(rng: np.random.Generator) -> None:
    turns = scene_turns(SCENE, "hat", 5, known, rng)
    assert 1 <= len(turns) <= 6
    assert len({q for q, _ in turns}) == len(turns)


def test_reasoning_follows_from_kinds() -> None:
    owl = Placed("owl", "", (60, 60, 90, 90))
    pear = Placed("pear", "", (100, 100, 130, 130))
    scene = Scene((200, 200), (CAT, DOG, owl, pear))
    for seed in range(20):
        answers = dict(reasoning_turns(scene, known, np.random.default_rng(seed)))
        expected = {"animals": "3", "things to eat": "1", "vehicles": "0", "shapes": "0"}
        for sort, count in expected.items():
            assert answers.get(f"How many {sort} are there?", count) == count
        assert "1" in (answers.get("How many can fly?"), answers.get("How many of them can fly?"))
        assert answers["Which of them can you eat?"] == "the pear"
        odd = {"Which is the odd one out?", "Which one does not belong?"} & set(answers)
        assert answers[odd.pop()] == "the pear"
    two = Scene((200, 200), (CAT, RING))
    assert odd_one_out(two, ["animal", "shape"]) is None  # either could be


@pytest.mark.parametrize("count", [2, 3, 4])
def test_composed_objects_do_not_overlap(count: int) -> None:
    image = Image.new("RGBA", (40, 30), (200, 10, 10, 255))
    actors = [Actor(f"a{i}", "", image) for i in range(count)]
    for seed in range(10):
        canvas, scene = compose_scene(actors, np.random.default_rng(seed))
        assert canvas.size == scene.size and len(scene.objects) == count
        for i, a in enumerate(scene.objects):
            left, top, right, bottom = a.box
            assert 0 <= left < right <= canvas.width and 0 <= top < bottom <= canvas.height
            for b in scene.objects[i + 1 :]:
                apart = right <= b.box[0] or b.box[2] <= left
                assert apart or bottom <= b.box[1] or b.box[3] <= top


def test_same_seed_same_picture() -> None:
    image = Image.new("RGBA", (40, 40), (20, 90, 200, 255))
    first, second = (single(image, "x", np.random.default_rng(7))[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert all(96 <= side <= 320 for side in first.size)
