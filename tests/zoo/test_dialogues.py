"""Conversations: their answers follow from the pictures, and every answer is in the next prompt."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from zoo.dialogue_sets import SORTS, Dialogue, Step, letters, reasoned
from zoo.dialogues import by_set, credit, guess, hold, referred, some
from zoo.reasoning import FLYERS

from neva.evaluate.openmoji import half

sys.path.append(str(Path(__file__).parents[1] / "evaluate"))
from eval_double import Double

MAMMALS = [f"mammal{n}" for n in range(40)]


def rows() -> list[dict[str, str]]:
    """A table with things of every sort, each of the report half, and some of the other."""
    called = {"food-fruit": [f"fruit{n}" for n in range(40)], "animal-mammal": MAMMALS,
              "transport-ground": [f"car{n}" for n in range(40)],
              "animal-bird": sorted(FLYERS)}  # fmt: skip
    codes = iter(f"{code:X}" for code in range(0x1F000, 0x1FFFF))
    found = []
    for subgroup, names in called.items():
        for name in names:
            code = next(code for code in codes if half(code) == "report")
            found.append({"hexcode": code, "annotation": name, "tags": "", "subgroups": subgroup})
    other = next(code for code in codes if half(code) == "dev")
    return [*found, {"hexcode": other, "annotation": "secret", "tags": "",
                     "subgroups": "animal-mammal"}]  # fmt: skip


def test_reasoning_follows_from_what_is_there() -> None:
    kinds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for layout, steps in reasoned(rows()):
        there = [one.actor for one in layout.placed]
        assert 1 < len(there) <= 5
        assert "secret" not in {one.name for one in there}
        for step in steps:
            kinds[step.kind] += 1
            gold = step.golds[0][0]
            if step.kind == "how many fly":
                assert int(gold) == sum(one.name in FLYERS for one in there)
                counts[gold] += 1
            elif step.kind == "how many of a kind":
                (sort,) = (sort for sort in SORTS if sort in step.question)
                assert int(gold) == sum(one.group.startswith(SORTS[sort]) for one in there)
            else:
                sorts = [next(s for s in SORTS if one.group.startswith(SORTS[s])) for one in there]
                (odd,) = (one for one, s in zip(there, sorts, strict=True) if sorts.count(s) == 1)
                assert odd.name == gold
    assert kinds == {"how many fly": 40, "how many of a kind": 80, "odd one out": 80}
    assert counts == dict.fromkeys("0123", 10)


def test_the_set_is_always_the_same() -> None:
    assert list(reasoned(rows())) == list(reasoned(rows()))


@pytest.mark.parametrize(
    ("kind", "golds", "answer", "expected"),
    [
        ("country", (("Côte d’Ivoire", "Ivory Coast"),), "It is the flag of Ivory Coast.", 1),
        ("country", (("Niger",),), "Nigeria", 0),
        ("capital", (("Paris",),), "Its capital is Paris.", 1),
        ("capital", (("São Tomé",),), "Sao Tome", 1),
        ("how many fly", (("3",),), "three of them", 1),
        ("how many fly", (("3",),), "2 of 3", 0),
        ("how many fly", (("3",),), "many", 0),
        ("odd one out", (("red apple", "fruit"),), "the red apple", 1),
        ("odd one out", (("red apple", "fruit"),), "fruit", 1),
        ("odd one out", (("red apple", "fruit"),), "a fruit bat", 0),
        ("odd one out", (("bus",),), "a cat, a dog and a bus; the odd one out is the bus", 1),
        ("odd one out", (("bus",),), "a cat, a dog and a bus; the odd one out is the dog", 0),
        ("describe", (("cat", "pet"), ("red circle", "circle")), "A pet and a dog.", 0.5),
        ("describe", (("cat",), ("dog",)), "a cat and a dog", 1),
    ],
)  # fmt: skip
def test_what_counts(
    kind: str, golds: tuple[tuple[str, ...], ...], answer: str, expected: float
) -> None:
    assert credit(Step(kind, "?", golds), answer) == expected


@pytest.fixture
def talks(tmp_path: Path) -> list[Dialogue]:
    found = []
    for number, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
        steps = (Step("country", "Whose flag?", ((colour,),)),
                 Step("capital", "Its capital?", ((f"{colour}ville",),)))  # fmt: skip
        found.append(Dialogue(f"flag-{number}", tmp_path / f"{colour}.png", steps))
    return found


def test_answers_stand_in_the_next_prompt(talks: list[Dialogue]) -> None:
    def reply(request: object) -> str:
        turns = request.conversation.turns  # type: ignore[attr-defined]
        red, green, _ = request.images[0].array[0, 0]  # type: ignore[attr-defined]
        seen = "red" if red else "lime" if green else "blue"
        return seen if len(turns) == 1 else f"{turns[1].text}ville"

    engine = Double(reply)  # type: ignore[arg-type]
    judged = hold(engine, talks)  # type: ignore[arg-type]
    assert [one.answer for one in judged] == [
        "red", "redville", "lime", "limeville", "blue", "blueville",
    ]  # fmt: skip
    assert sum(one.credit for one in judged) == 6
    blind = hold(engine, talks, shuffled=True)  # type: ignore[arg-type]
    assert sum(one.credit for one in blind) == 0
    assert len({one.item.id for one in judged}) == 6
    # About another's picture both answers are wrong, and still the second fits the first.
    name = "accuracy.capital of the country it named"
    assert referred(talks, judged)[name] == referred(talks, blind)[name] == 100


def test_guess_is_the_commonest_answer(talks: list[Dialogue]) -> None:
    assert guess(talks) == pytest.approx({"accuracy.country": 100 / 3, "accuracy.capital": 100 / 3})
    assert len(some(talks, 2)) == 2
    assert list(by_set(talks)) == ["flag"]


def test_a_flag_is_told_by_its_letters() -> None:
    assert letters("1F1EB-1F1F7") == "fr"
    assert letters("1F3F4") == letters("1F1EB") == letters("1F3F4-200D") == ""
