"""The check finds every kind of problem, names it, and says nothing where nothing is wrong."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from made_pictures import NAMES
from typer.testing import CliRunner

from neva.cli import app
from neva.data import Encoding, Flaw, Record, encode_record
from neva.data.check import check
from neva.errors import DataError
from neva.prompts import Conversation, ImageSlot, assistant, user


def record(id: str, *names: str, answer: str = "A cat.") -> Record:
    slots = [ImageSlot(i) for i in range(len(names))]
    return Record(id, names, Conversation((user(*slots, "\nWhat?"), assistant(answer))), 1)


GOOD = [record("a", NAMES[0]), record("b", NAMES[0], NAMES[1]), record("c")]


def test_a_good_set(pictures: Path, encoding: Encoding) -> None:
    steps: list[tuple[int, int]] = []
    report = check(
        GOOD, pictures, encoding, progress=lambda done, total: steps.append((done, total))
    )
    assert report.ok and report.problems == ()
    assert (report.records, report.broken, report.text_only, report.images) == (3, 0, 1, 2)
    assert report.smallest == report.largest == (30, 20)
    samples = [encode_record(entry, encoding) for entry in GOOD]
    assert report.lengths is not None
    assert report.lengths.tokens == sum(map(len, samples))
    assert report.lengths.longest == max(map(len, samples))
    assert report.lengths.supervised == 3 * (len("A cat.") + 1)  # one token a byte, and the end
    assert report.lengths.cut == 0
    assert steps == [(i, 5) for i in range(1, 6)]


def test_every_problem_is_listed(pictures: Path, encoding: Encoding) -> None:
    short = dataclasses.replace(encoding, max_length=60)
    entries = [
        *GOOD,
        Flaw("flawed", 4, "it is odd; mend it"),
        record("missing", "none.png"),
        record("corrupt", "corrupt.png", NAMES[2]),
        record("twice", "none.png", "none.png"),
        Record("long", (), Conversation((user("Q" * 100), assistant("A"))), 9),
    ]
    report = check(entries, pictures, short)
    by_sample = {problem.sample: problem for problem in report.problems}
    assert by_sample.keys() == {"flawed", "missing", "corrupt", "twice", "long"}
    assert len(report.problems) == report.broken == 5
    assert by_sample["missing"].file == "none.png"
    assert str(pictures / "none.png") in by_sample["missing"].sentence
    assert "damaged or incomplete" in by_sample["corrupt"].sentence
    assert "no answer to learn" in by_sample["long"].sentence
    told = json.loads(json.dumps(report.to_json()))
    assert told["ok"] is False and len(told["problems"]) == 5


def test_images_without_a_folder() -> None:
    report = check(GOOD, None)
    assert {problem.sample for problem in report.problems} == {"a", "b"}
    assert report.lengths is None


def write(folder: Path, image: str) -> Path:
    told = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    path = folder / "data.json"
    path.write_text(json.dumps([{"id": "first", "image": image, "conversations": told}]))
    return path


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        (NAMES[0], 0, "No problems"),
        ("none.png", 1, "first: "),
        ("corrupt.png", 1, "1 problems in 1"),
    ],
)
def test_the_command(image: str, code: int, words: str, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    data = write(tmp_path, image)
    arguments: list[Any] = ["check", "--data", data, "--images", pictures, "--json", out]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code and words in result.stdout
    assert json.loads(out.read_text())["ok"] is (code == 0)


def test_a_report_that_cannot_be_written_stops_at_once(pictures: Path, tmp_path: Path) -> None:
    data, out = write(tmp_path, NAMES[0]), tmp_path / "none" / "report.json"
    arguments = ["check", "--data", data, "--images", pictures, "--json", out]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 1 and isinstance(result.exception, DataError)
