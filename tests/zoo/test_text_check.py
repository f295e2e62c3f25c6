"""The text-only check: held-out words, patterns that can fail, and a likelihood that is right."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from zoo.text_check import NATS, Plain, packed, rows, texts

from neva.evaluate.files import read_json
from neva.model.checkpoint import Checkpoint
from zoo import phrasing, text_check

TINY = Path(__file__).parents[1] / "engine" / "tiny_llava.py"
RIGHT = {
    "Which city is the capital of France?": "The capital of France is Paris.",
    "What is 2 + 2?": "2 + 2 equals 4.",
    "What is the opposite of open?": "Closed.",
    "What is frozen water called?": "It is called ice",
    "Answer with one word: is fire hot or cold?": "Hot.",
    "Write the numbers from one to five.": "1, 2, 3, 4, 5",
    "List three animals.": "1. Lions\n2. Tigers\n3. Elephants",
    "Translate the English word 'cat' into Spanish.": "El gato",
}
WRONG = {
    "Which city is the capital of France?": "The capital of France is Lyon.",
    "What is 2 + 2?": "2 + 2 equals 44.",
    "What is frozen water called?": "It is frozen by the absence of ice crystals",
    "Answer with one word: is fire hot or cold?": "Fire is hot and not cold.",
    "Write the numbers from one to five.": "1, 2, 3",
    "List three animals.": "1. Mona Lake",
    "What is the opposite of open?": "The opposite of closed is closed.",
}


def test_patterns_tell_right_from_wrong() -> None:
    items = {item.question: item for item in Plain().load(None)}
    for question, answer in RIGHT.items():
        assert Plain().judge(items[question], answer)[1] == 1, question
    for question, answer in WRONG.items():
        assert Plain().judge(items[question], answer) == ("", 0.0), question


def test_no_pattern_is_met_by_its_own_question_or_by_nothing() -> None:
    echoed = {"Write a short sentence with the word rain in it.", "Say hello."}
    for item in Plain().load(None):
        assert Plain().judge(item, "")[1] == 0, item.question
        if item.question not in echoed:
            assert Plain().judge(item, item.question)[1] == 0, item.question


def test_no_question_is_one_of_stage_two() -> None:
    found = read_json(text_check.TEXTS)
    asked = [one[1] for name in ("prompts", "texts") for one in found[name]]
    assert len(asked) == len(set(asked)) >= 80
    taught = {question for question, _ in phrasing.CHAT}
    assert not taught & set(asked)
    pattern = r"What is the capital of|What is \d+ plus \d+\?"
    assert not [one for one in asked if re.match(pattern, one)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("text") / "tiny"
    made: Path = runpy.run_path(str(TINY))["write_checkpoint"](folder)
    return Checkpoint.open(made)


def test_every_text_is_in_one_row(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_check, "ROW", 400)
    found = list(rows(tiny, texts(None)))
    assert sum(len(row) for _, row in found) == len(texts(None))
    assert all(len(row) == 1 or sum(map(len, row)) <= 400 for _, row in found)
    assert len(found) > len({kind for kind, _ in found})


def test_likelihood_is_that_of_each_text_alone(tiny: Checkpoint) -> None:
    torch = pytest.importorskip("torch")
    from neva.model.load import load_model

    found = text_check.likelihood(tiny, 4)
    model = load_model(tiny, dtype=torch.float32)
    losses: list[float] = []
    with torch.inference_mode():
        for _, row in rows(tiny, texts(4)):
            for one in row:
                inputs = packed([one])
                logits = model(input_ids=inputs.ids[None]).logits[0].log_softmax(-1)
                places = np.flatnonzero(one.supervised)
                losses += [-float(logits[p - 1, one.ids[p]]) for p in places]
    assert found[NATS] == pytest.approx(float(np.mean(losses)), rel=1e-4)
    kinds = {name for name in found if name != NATS}
    assert kinds == {f"{NATS}, {kind}" for kind, _ in texts(4)}


@pytest.mark.slow
def test_before_is_the_packaged_base(tmp_path: Path) -> None:
    from neva.model.checkpoint import read_tensors
    from neva.model.keys import BODY
    from neva.nano.base import BaseModel, find_base

    before = read_tensors(text_check.without_adapter(tmp_path))
    for name, value in BaseModel(find_base()).tensors().items():
        rows_there = before[BODY + name][: len(value)]
        assert np.array_equal(rows_there.view(np.uint16), value.view(np.uint16)), name
