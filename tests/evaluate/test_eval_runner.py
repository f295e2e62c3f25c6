"""The runner: in order whatever finishes first, resumable, honest about what cannot be asked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_double import Double, words
from PIL import Image

from neva.engine.protocol import Request
from neva.errors import DataError, EngineError
from neva.evaluate import Item, Judged, evaluate
from neva.evaluate.baseline import blind, exchange
from neva.evaluate.easy_vqa import EasyVQA
from neva.evaluate.task import spread
from neva.images import read_image

COLORS = ("red", "green", "blue")
RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Toy(EasyVQA):
    """easy-VQA's judge over a folder of one-coloured pictures: what color is it? is it red?"""

    def load(self, data: Path | None) -> list[Item]:
        assert data is not None
        items = []
        for number in range(24):
            color = COLORS[number % 3]
            path = data / f"{color}.png"
            if not path.exists():
                Image.new("RGB", (8, 8), RGB[color]).save(path)
            facts = {"majority": "red"}
            items.append(Item(f"c{number}", "what color?", path, (color,), "color", facts))
        return items


def seer(request: Request) -> str:
    """Look at the picture; without one say red."""
    if not request.images:
        return "red"
    return COLORS[int(np.argmax(request.images[0].array[0, 0]))]


def ask(engine: Double, folder: Path, **options: object) -> tuple[list[Judged], dict[str, float]]:
    report = evaluate(Toy(), engine, data=folder, **options)  # type: ignore[arg-type]
    return list(report.judged), dict(report.metrics)


def test_answers_in_order_with_a_bound_on_requests(tmp_path: Path) -> None:
    engine = Double(seer)
    judged, metrics = ask(engine, tmp_path, in_flight=5)
    assert [one.item.id for one in judged] == [f"c{number}" for number in range(24)]
    assert metrics["accuracy"] == 100.0
    assert 1 < engine.most <= 5


def test_batched_equals_single(tmp_path: Path) -> None:
    alone, _ = ask(Double(seer), tmp_path, in_flight=1)
    together, _ = ask(Double(seer), tmp_path, in_flight=24)
    assert alone == together


def test_is_greedy_and_records_how_it_asked(tmp_path: Path) -> None:
    engine = Double(words)
    report = evaluate(Toy(), engine, 3, data=tmp_path, suffix="\nShort.", system="Be brief.")
    assert [one.answer for one in report.judged] == ["\nwhat color?\nShort."] * 3
    assert {request.sampling.temperature for request in engine.asked} == {0.0}
    assert {request.sampling.max_tokens for request in engine.asked} == {16}
    assert {request.conversation.system for request in engine.asked} == {"Be brief."}
    assert report.asked["suffix"] == "\nShort."
    assert (len(report.judged), report.total) == (3, 24)


def test_without_its_eyes(tmp_path: Path) -> None:
    _, text = ask(Double(seer), tmp_path, baseline="text")
    assert text["accuracy"] == pytest.approx(100 / 3)
    judged, shuffled = ask(Double(seer), tmp_path, baseline="shuffled")
    assert shuffled["accuracy"] == 0.0  # every question saw another picture than its own
    assert all(one.item.image is not None for one in judged)


def test_exchange_gives_every_picture_another(tmp_path: Path) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(50)]
    others = exchange(pictures, seed=3)
    assert sorted(others.values()) == sorted(pictures)
    assert all(picture != other for picture, other in others.items())
    assert others == exchange(pictures, seed=3)
    with pytest.raises(DataError, match="two pictures"):
        blind([Item("1", "?", pictures[0], ("a",))], "shuffled")


def test_a_question_that_cannot_be_asked_earns_nothing(tmp_path: Path) -> None:
    engine = Double(seer, refuses=lambda request: seer(request) == "blue")
    report = evaluate(Toy(), engine, data=tmp_path)
    assert report.errors == 8
    assert report.metrics["accuracy"] == pytest.approx(200 / 3)
    assert "longer than the context" in str(report.as_json()["answers"][2]["error"])


def test_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial.jsonl"
    failing = Double(seer)

    def die(request: Request) -> str:
        if len(failing.asked) > 10:
            raise RuntimeError("out of memory")
        return seer(request)

    failing.reply = die
    with pytest.raises(EngineError, match=r"question 'c.*out of memory"):
        ask(failing, tmp_path, partial=partial, in_flight=2)
    kept = len(partial.read_text().splitlines()) - 1
    assert 5 <= kept <= 11
    with partial.open("a") as file:
        file.write('{"id": "c23", "te')  # killed in the middle of a line
    engine = Double(seer)
    judged, metrics = ask(engine, tmp_path, partial=partial)
    assert len(engine.asked) == 24 - kept
    assert metrics["accuracy"] == 100.0
    assert judged == ask(Double(seer), tmp_path)[0]
    again = evaluate(Toy(), Double(seer), data=tmp_path, partial=partial)
    assert (again.resumed, again.metrics) == (24, metrics)
    lines = [json.loads(line) for line in partial.read_text().splitlines()]
    assert sorted(line["id"] for line in lines[1:]) == sorted(f"c{n}" for n in range(24))


def test_never_mixes_two_runs(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial.jsonl"
    ask(Double(seer), tmp_path, partial=partial)
    before = partial.read_bytes()
    with pytest.raises(DataError, match="baseline 'none' there and 'text' here"):
        ask(Double(seer), tmp_path, partial=partial, baseline="text")
    assert partial.read_bytes() == before
    partial.write_text("hello\n")
    with pytest.raises(DataError, match="is not a partial result"):
        ask(Double(seer), tmp_path, partial=partial)


def test_never_mixes_two_sets(tmp_path: Path) -> None:
    """The same questions about other pictures, or with other truths, are another set."""
    partial = tmp_path / "out.partial.jsonl"
    items = Toy().load(tmp_path)
    evaluate(Toy(), Double(seer), items=items, partial=partial)
    other = [replace(items[0], golds=("blue",)), *items[1:]]
    with pytest.raises(DataError, match="data '"):
        evaluate(Toy(), Double(seer), items=other, partial=partial)
    with pytest.raises(DataError, match="data '"):
        evaluate(Toy(), Double(seer), items=items[1:], partial=partial)
    moved = tmp_path / "moved"
    moved.mkdir()
    again = evaluate(Toy(), Double(seer), items=Toy().load(moved), partial=partial)
    assert again.resumed == 24, "the same pictures in another folder are the same set"
    Image.new("RGB", (9, 8), "green").save(moved / "green.png", compress_level=0)
    with pytest.raises(DataError, match="data '"):
        evaluate(Toy(), Double(seer), items=Toy().load(moved), partial=partial)


def test_a_broken_picture_stops_the_run_and_names_question_and_file(tmp_path: Path) -> None:
    Toy().load(tmp_path)
    (tmp_path / "green.png").write_bytes((tmp_path / "green.png").read_bytes()[:40])
    engine = Double(seer)
    with pytest.raises(DataError, match=r"question 'c1': .*green\.png"):
        ask(engine, tmp_path)
    engine.close()


def test_reads_a_picture_once_for_many_questions(tmp_path: Path) -> None:
    engine = Double(seer)
    ask(engine, tmp_path)
    assert len({id(request.images[0]) for request in engine.asked}) == 3
    assert read_image(tmp_path / "red.png").digest == engine.asked[0].images[0].digest


def test_spread() -> None:
    items = [Item(str(number), "?", None, ("a",)) for number in range(10)]
    assert [item.id for item in spread(items, 3)] == ["0", "3", "6"]
    assert spread(items, None) == spread(items, 10) == spread(items, 99) == items
