"""The records are LLaVA's JSON, true to their pictures, and a function of the seed."""

import json
from pathlib import Path

import pytest
import tiny_gallery
from PIL import Image
from zoo.captions import CaptionPlan
from zoo.captions import examples as captions
from zoo.deck import Deck
from zoo.instructions import InstructionPlan, vqa_examples
from zoo.instructions import examples as instructions
from zoo.records import Example, write
from zoo.scene_records import ScenePlan

from zoo import vqa

STAGE1 = CaptionPlan(icons=2, monos=2, vqa=5, shapes=4, scenes=4)
STAGE2 = InstructionPlan(
    vqa_images=5,
    names=6,
    icon_names=2,
    vqa=6,
    emoji=12,
    icons=2,
    monos=2,
    flags=2,
    shapes=4,
    scenes=ScenePlan(places=2, sides=2, crowds=2, reasoning=2, mixed=2, riddles=2),
    unsure=3,
    capitals=1,
    sums=2,
)


@pytest.fixture(scope="module")
def deck(tmp_path_factory: pytest.TempPathFactory) -> Deck:
    work = tmp_path_factory.mktemp("zoo")
    tiny_gallery.build(work)
    return Deck.open(work)


def test_stage1_is_llava_json(deck: Deck, tmp_path: Path) -> None:
    made = captions(deck, STAGE1)
    assert write(made, tmp_path) == len(made)
    rows = json.loads((tmp_path / "chat.json").read_text())
    assert len({r["id"] for r in rows}) == len(rows)
    for row in rows:
        human, gpt = row["conversations"]
        assert human["from"] == "human" and human["value"].startswith("<image>\n")
        assert gpt["from"] == "gpt" and gpt["value"]
        Image.open(tmp_path / "images" / row["image"]).verify()


def test_stage2_is_llava_json(deck: Deck, tmp_path: Path) -> None:
    write(instructions(deck, STAGE2), tmp_path)
    rows = json.loads((tmp_path / "chat.json").read_text())
    assert any("image" not in r for r in rows)
    for row in rows:
        turns = row["conversations"]
        assert [t["from"] for t in turns] == ["human", "gpt"] * (len(turns) // 2)
        tags = [t["value"].count("<image>") for t in turns]
        assert tags == [int("image" in row)] + [0] * (len(turns) - 1)
        assert all(t["value"].strip() for t in turns)


def text_of(examples: list[Example]) -> list[tuple[str, object]]:
    return [(e.kind, e.turns) for e in examples]


def test_same_seed_same_records(deck: Deck) -> None:
    first, second = instructions(deck, STAGE2), instructions(deck, STAGE2)
    assert text_of(first) == text_of(second)
    pictures = [(a.picture, b.picture) for a, b in zip(first, second, strict=True)]
    assert all(a.tobytes() == b.tobytes() for a, b in pictures if a and b)
    assert text_of(captions(deck, STAGE1)) == text_of(captions(deck, STAGE1))


def test_every_question_of_an_image_is_asked_once_with_its_own_answer() -> None:
    import numpy as np

    image = vqa.train_images()[0]
    made = vqa_examples(image, 5, np.random.default_rng(0))
    asked = [(q.split("\n")[0], a) for e in made for q, a in e.turns]
    assert sorted(asked) == sorted(image.questions)
    assert max(len(e.turns) for e in made) <= 5


def test_shape_and_colour_follow_from_an_images_own_answers() -> None:
    negated = (("is no red shape present?", "yes"), ("is there not a circle?", "no"))
    from zoo.vqa import COLOURS, SHAPES, _present

    assert _present(negated, COLOURS) == ""
    assert _present(negated, SHAPES) == "circle"
    images = vqa.train_images()
    assert all(
        ("what color is the shape?", i.colour) in i.questions
        for i in images
        if any(q == "what color is the shape?" for q, _ in i.questions)
    )


def test_naming_answers_are_the_plain_name(deck: Deck) -> None:
    from zoo.phrasing import NAME

    names = {d.concept for d in deck.gallery.drawings}
    for example in instructions(deck, STAGE2):
        if example.kind in ("emoji", "icon", "mono", "flag"):
            answers = [a for q, a in example.turns if q.split("\n")[0] in NAME]
            assert answers and answers[0] in names
