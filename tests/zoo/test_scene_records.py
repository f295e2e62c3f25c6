"""Scenes: true by their geometry, balanced form by form, a function of the seed."""

from collections import Counter

import numpy as np
import pytest
from paper_deck import paper_deck
from zoo.balance import Asked, Balance
from zoo.casting import Casting
from zoo.reasoning import (
    COUNTS,
    FLYERS,
    SORTS,
    count_flying,
    count_sort,
    odd_one,
    odd_one_out,
    sort_of,
    what_to_eat,
)
from zoo.scene_questions import View
from zoo.scene_records import ScenePlan, SceneWriter, scene_examples
from zoo.scenes import Placed, Scene, compose_scene, side_of

from zoo import scene_questions as ask
from zoo import side_questions as sides

CAT = Placed("cat", "", (10, 10, 50, 50))
DOG = Placed("dog", "", (140, 12, 180, 52))
RING = Placed("ring", "red", (12, 150, 52, 190))
SCENE = Scene((200, 200), (DOG, CAT, RING))
PLAN = ScenePlan(places=20, sides=12, crowds=20, reasoning=16, mixed=20, totals=20, riddles=12)


@pytest.fixture(scope="module")
def casting() -> Casting:
    return Casting(paper_deck())


@pytest.fixture(scope="module")
def writer(casting: Casting) -> SceneWriter:
    """A writer that has told all of the plan."""
    made = SceneWriter(casting, np.random.default_rng(1))
    for _ in range(35):
        made.places(), made.crowd(), made.reasoning(), made.mixed()
    return made


def view(casting: Casting, scene: Scene, seed: int, balance: Balance | None = None) -> View:
    return View(scene, casting, balance or Balance(), np.random.default_rng(seed))


def named(question: str, scene: Scene) -> list[Placed]:
    """The objects that a question names, in its order."""
    there = [o for o in scene.objects if o.phrase in question]
    return sorted(there, key=lambda o: question.index(o.phrase))


@pytest.mark.parametrize("side", sides.OPPOSITE)
def test_whether_is_true_and_as_often_yes_as_no(casting: Casting, side: str) -> None:
    form, balance = sides.whether(side), Balance()
    for seed in range(40):
        asked = form(view(casting, SCENE, seed, balance))
        assert asked is not None
        balance.tell(asked)
        one, other = named(asked.question, SCENE)
        assert (side in side_of(one, other)) == (asked.answer == "yes")
        assert any(word in asked.question for word in (side, "higher", "lower"))
    assert balance.told[f"whether {side}", "yes"] == balance.told[f"whether {side}", "no"] == 20


@pytest.mark.parametrize("first", sides.WHICH)
def test_which_side_is_true(casting: Casting, first: str) -> None:
    for seed in range(30):
        asked = sides.which(first)(view(casting, SCENE, seed))
        assert asked is not None
        one, other = named(asked.question, SCENE)
        if asked.question.startswith("On which side"):
            one, other = other, one
        assert asked.answer in side_of(one, other)


def test_nothing_is_compared_with_a_copy_or_with_itself(casting: Casting) -> None:
    twins = Scene((200, 200), (CAT, Placed("cat", "", (120, 120, 160, 160))))
    assert sides.whether("left")(view(casting, twins, 0)) is None
    assert sides.which("above")(view(casting, Scene((90, 90), (CAT,)), 0)) is None
    assert sides.at_end("left")(view(casting, Scene((90, 90), (CAT,)), 0)) is None


def test_what_is_at_an_end(casting: Casting) -> None:
    answers = {side: sides.at_end(side)(view(casting, SCENE, 0)) for side in sides.OPPOSITE}
    assert answers["right"] is not None and answers["right"].answer == "dog"
    assert answers["below"] is not None and answers["below"].answer == "red ring"
    assert answers["left"] is None and answers["above"] is None  # two stand there


def test_a_record_compares_two_things_once(casting: Casting) -> None:
    two = Scene((200, 200), (CAT, DOG))
    for seed in range(20):
        seen = view(casting, two, seed)
        assert len(ask.ask_some(seen, ask.shuffled(sides.COMPARE_FORMS, seen.rng), 5)) == 1


def test_counts_are_true(casting: Casting) -> None:
    twins = Scene((200, 200), (CAT, Placed("cat", "", (100, 100, 140, 140)), DOG))
    total = ask.count_all(view(casting, twins, 0))
    assert total is not None and total.answer == "3"
    for seed in range(20):
        same = ask.count_same(view(casting, twins, seed))
        assert same is not None and same.answer == ("2" if "cat" in same.question else "1")
    balance = Balance(Counter({("count same", "1"): 9, ("count same", "2"): 9}))
    assert ask.count_same(view(casting, twins, 0, balance)) is None  # ahead of 3, 4 and 5


@pytest.mark.parametrize("kind", ["shape", "thing"])
def test_presence_is_true_and_balanced(casting: Casting, kind: str) -> None:
    balance, form = Balance(), ask.there_is(kind)
    phrases = {o.phrase for o in SCENE.objects}
    for seed in range(60):
        asked = form(view(casting, SCENE, seed, balance))
        assert asked is not None
        balance.tell(asked)
        said = {phrase for phrase in phrases if f" {phrase} " in asked.question.replace("?", " ")}
        assert bool(said) == (asked.answer == "yes"), asked
    assert balance.told[f"there {kind}", "yes"] == balance.told[f"there {kind}", "no"] == 30


def test_absent_shapes_are_often_near(casting: Casting) -> None:
    rng = np.random.default_rng(0)
    absent = [casting.absent_shape(SCENE, rng) for _ in range(200)]
    assert ("ring", "red") not in {(s.kind, s.colour) for s in absent}
    assert sum(s.kind == "ring" for s in absent) > 40
    assert sum(s.colour == "red" for s in absent) > 40
    names = [casting.absent_thing(SCENE, rng) for _ in range(200)]
    assert not {"cat", "dog", "ring"} & set(names)  # the emoji ring is a ring as well
    assert sum(name in ("horse", "cow", "lion") for name in names) > 60


def test_what_could_be_taken_for_another_is_akin(casting: Casting) -> None:
    assert casting.akin(("lemon", ""), ("pear", "")) and casting.akin(("pear", ""), ("lemon", ""))
    assert casting.akin(("red ring", ""), ("ring", "blue"))
    assert casting.akin(("circle", "red"), ("ellipse", "red"))
    assert not casting.akin(("circle", "red"), ("circle", "blue"))
    assert not casting.akin(("circle", "red"), ("ellipse", "blue"))
    assert "one-thirty" not in casting.things


def test_colour_of_the_only_shape_of_its_kind(casting: Casting) -> None:
    both = Scene((200, 200), (RING, Placed("ring", "blue", (90, 90, 120, 120)), CAT))
    assert ask.colour_of(view(casting, both, 0)) is None
    asked = ask.colour_of(view(casting, SCENE, 0))
    assert asked is not None and asked.answer == "red" and "red" not in asked.question


def test_order_is_asked_where_none_stands_above_another(casting: Casting) -> None:
    assert ask.in_order(view(casting, SCENE, 0)) is None
    asked = ask.in_order(view(casting, Scene((200, 200), (DOG, CAT)), 0))
    assert asked is not None and asked.answer == "cat, dog"


def test_reasoning_follows_from_sorts(casting: Casting) -> None:
    owl = Placed("owl", "", (60, 60, 90, 90))
    pear = Placed("pear", "", (100, 100, 130, 130))
    scene = Scene((200, 200), (CAT, DOG, owl, pear))
    numbers = {"animals": "3", "things to eat": "1", "vehicles": "0", "shapes": "0"}
    for seed in range(20):
        look = view(casting, scene, seed)
        counted, flying, eaten, odd = (
            form(look) for form in (count_sort, count_flying, what_to_eat, odd_one)
        )
        assert counted is not None and flying is not None and eaten is not None and odd is not None
        assert counted.answer == next(n for word, n in numbers.items() if word in counted.question)
        assert flying.answer == "1" and eaten.answer == "the pear" and odd.answer == "pear"
        can = ("a dog cannot fly", "a cat cannot fly", "an owl can fly", "a pear cannot fly")
        assert flying.reasons.endswith(", so 1") and all(one in flying.reasons for one in can)
        assert counted.reasons.endswith(f"so {counted.answer}")
        sorts = (
            "a cat is an animal",
            "a dog is an animal",
            "an owl is an animal",
            "a pear is food",
        )
        assert all(one in odd.reasons for one in sorts)
        everything = odd.reasons.removesuffix(", so the odd one out is the pear")
        assert counted.reasons == f"{everything}, so {counted.answer}"  # whatever is asked
        assert ask.ask_some(look, [count_flying], 1)[0][1] == flying.reasons
    assert odd_one_out(Scene((200, 200), (CAT, RING)), ["animal", "shape"]) is None
    doubtful = Scene((200, 200), (CAT, Placed("wheel", "", (90, 90, 120, 120))))
    assert count_sort(view(casting, doubtful, 0)) is None
    hen = Scene((200, 200), (CAT, Placed("chicken", "", (90, 90, 120, 120))))
    assert count_flying(view(casting, hen, 0)) is None


def test_casts_are_what_they_are_called(casting: Casting) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        _, odd = compose_scene(casting.odd_one(rng), rng)
        assert odd_one_out(odd, [sort_of(o, casting.deck.kind_of) for o in odd.objects])
        flying = [actor.name in FLYERS for actor in casting.flying(2, rng)]
        assert sum(flying) == 2 and len(flying) > 2
        crowd = [actor.who for actor in casting.crowd(3, 2, rng)]
        assert len(crowd) == 5 and crowd.count(crowd[0]) == 3
        different = [actor.who for actor in casting.different(4, rng)]
        assert len(set(different)) == 4
        assert not any(casting.akin(a, b) for a in different for b in different if a != b)


def test_all_that_was_told_is_balanced(writer: SceneWriter) -> None:
    told = writer.balance.told
    for form in {form for form, answer in told if answer in ("yes", "no")}:
        if form not in ("there kind", "there colour"):  # not every scene has both answers
            assert abs(told[form, "yes"] - told[form, "no"]) <= 1, form
    for first in sides.WHICH:
        form = f"which {first}"
        assert abs(told[form, first] - told[form, sides.OPPOSITE[first]]) <= 1
    for form, values in (("count all", ask.TOTALS), ("count same", ask.TOTALS),
                         ("count sort", COUNTS), ("count flying", COUNTS[:4])):  # fmt: skip
        numbers = [told[form, value] for value in values]
        every = min(numbers) > 0 or sum(numbers) < len(values)  # three records tell three
        assert every and max(numbers) - min(numbers) <= 4, (form, numbers)


def test_a_total_is_asked_at_once_and_each_number_as_often(casting: Casting) -> None:
    told, writer = Counter[str](), SceneWriter(casting, np.random.default_rng(2))
    for _ in range(25):
        record = writer.total()
        ((question, answer),) = record.turns
        assert question.split("\n")[0] in ask.HOW_MANY
        told[answer] += 1
    assert told == dict.fromkeys("12345", 5)


def test_what_is_shown_is_all_named_at_once(casting: Casting) -> None:
    writer = SceneWriter(casting, np.random.default_rng(3))
    for _ in range(40):
        record = writer.shown()
        assert record.kind == "shown" and 1 <= len(record.turns) <= 2
        question, answer = record.turns[0]
        assert question in ask.SEE and " and " in answer
        assert 2 <= len(answer.replace(" and ", ", ").split(", ")) <= 4


def test_records_are_short_and_a_function_of_the_seed(casting: Casting) -> None:
    first, second = (scene_examples(casting, PLAN, np.random.default_rng(5)) for _ in range(2))
    assert [e.turns for e in first] == [e.turns for e in second]
    pictures = [(a.picture, b.picture) for a, b in zip(first, second, strict=True)]
    shown = [(a, b) for a, b in pictures if a and b]
    assert len(shown) == len(first) - 12 and all(a.tobytes() == b.tobytes() for a, b in shown)
    kinds = {"places": 20, "sides": 12, "crowd": 20, "reasoning": 16, "scene": 20,
             "total": 20, "riddle": 12}  # fmt: skip
    assert Counter(e.kind for e in first) == kinds
    for example in first:
        assert 1 <= len(example.turns) <= (8 if example.kind == "sides" else 5)
        assert len({question for question, _ in example.turns}) == len(example.turns)
    sides = [answer for e in first if e.kind == "sides" for _, answer in e.turns]
    assert abs(sides.count("yes") - sides.count("no")) <= 8 and len(sides) > 30
    assert sum("odd" in q or "belong" in q for e in first for q, _ in e.turns) >= 6


def test_the_rarest_answer_is_picked() -> None:
    balance, rng = Balance(), np.random.default_rng(0)
    for _ in range(9):
        balance.tell(Asked("form", "?", balance.rarest("form", ("a", "b", "c"), rng), "x"))
    assert set(balance.told.values()) == {3}
    balance.told["form", "a"] += 3
    assert not balance.fair("form", "a", ("a", "b")) and balance.fair("form", "b", ("a", "b"))
    assert set(SORTS) == {"animal", "food", "vehicle", "shape"}
