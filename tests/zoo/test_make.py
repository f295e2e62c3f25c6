"""One command for the whole road: what is there is left alone, what is missing is made."""

import json
from pathlib import Path

import pytest
from zoo.make import TRIAL, Budget, Step, main, run, steps


def test_a_step_is_made_once_and_its_time_is_noted(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> None:
        made.append(name)
        (tmp_path / name).write_text("there")

    plan = [Step(name, tmp_path / name, lambda name=name: make(name)) for name in ("one", "two")]
    times = tmp_path / "times.jsonl"
    run(plan[:1], times)
    run(plan, times)
    assert made == ["one", "two"]
    noted = [json.loads(line)["step"] for line in times.read_text().splitlines()]
    assert noted == ["one", "two"]


def test_a_trial_goes_the_same_road(tmp_path: Path) -> None:
    whole, trial = (
        [(one.name, one.output) for one in steps(tmp_path, budget, tmp_path / "packed")]
        for budget in (Budget(), TRIAL)
    )
    assert whole == trial and whole[-1][0] == "pack"
    assert {one.steps for one in TRIAL.rounds()} == {2}


def test_an_unknown_step_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--until", "nowhere"])
    assert "drawings, teacher, clip" in capsys.readouterr().err
