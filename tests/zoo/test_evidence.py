"""`zoo.evidence`: what is done is kept, what is of other weights is not; tables tell results."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zoo.evidence import results
from zoo.evidence_tables import PAGES, blocks, fill, page, speed_note
from zoo.judged import check_there
from zoo.trials import TASKS, Plan, Trial, begun_with, trials

from neva.errors import DataError
from zoo import evidence
from zoo import trials as runs

SHA = "ab" * 32


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "m", SHA, tmp_path, tmp_path / "work", named=False)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands instead of running them."""
    found: list[list[str]] = []
    monkeypatch.setattr(runs, "call", lambda command: found.append(list(command)))
    return found


def result(task: str, baseline: str = "none", score: float = 50.0, **asked: Any) -> dict[str, Any]:
    said = ["a cat", "I am not sure."]
    return {
        "task": task,
        "asked": {"sha256": SHA, "baseline": baseline, "limit": None, "suffix": "",
                  "engine": "openvino", "precision": "int8"} | asked,
        "questions": 2, "of": 2, "seconds": 3.0, "resumed": 0, "interval_95": [1, 99],
        "metrics": {"accuracy": score, "accuracy.flag": 25.0, "n.flag": 1.0},
        "floor": {"accuracy": 8.0},
        "answers": [{"answer": one, "credit": 1.0 - n} for n, one in enumerate(said)],
    }  # fmt: skip


def write(plan: Plan, name: str, found: dict[str, Any]) -> Path:
    path = plan.out / f"{name}.json"
    path.write_text(json.dumps(found))
    return path


def test_every_set_is_asked_with_and_without_its_pictures(plan: Plan) -> None:
    names = [trial.name for trial in trials(plan)]
    for task in TASKS:
        assert {task, f"{task}-text", f"{task}-shuffled"} <= set(names)
    assert {"dialogues", "photographs", "text-check", "speed"} <= set(names)
    assert len(names) == len(set(names))


def test_what_is_done_is_not_done_again(plan: Plan, called: list[list[str]]) -> None:
    trial = next(one for one in trials(plan) if one.name == "openmoji")
    write(plan, "openmoji", result("openmoji"))
    trial.run(plan)
    assert called == []


@pytest.mark.parametrize("change", [{"sha256": "cd" * 32}, {"limit": 20}])
def test_other_weights_or_another_limit_are_done_again(
    plan: Plan, called: list[list[str]], change: dict[str, Any]
) -> None:
    trial = next(one for one in trials(plan) if one.name == "openmoji")
    write(plan, "openmoji", result("openmoji", **change))
    trial.run(plan)
    (command,) = called
    assert command[2:5] == ["neva", "eval", "openmoji"]
    assert command[-2:] == ["--json", str(plan.out / "openmoji.json")]


def test_answers_of_other_weights_are_thrown_away(plan: Plan, called: list[list[str]]) -> None:
    trial = next(one for one in trials(plan) if one.name == "openmoji")
    mine, stale = (plan.out / f"openmoji.json{kind}.partial.jsonl" for kind in ("", ".text"))
    mine.write_text(json.dumps({"run": {"sha256": SHA, "limit": None}}) + "\n{}\n")
    stale.write_text(json.dumps({"run": {"sha256": "cd" * 32, "limit": None}}) + "\n")
    other = plan.out / "openmoji-text.json.text.partial.jsonl"
    other.write_text("broken")
    trial.run(plan)
    assert mine.exists() and not stale.exists() and other.exists()
    assert not begun_with(other, SHA, None)
    assert len(called) == 1


def test_a_judge_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"openmoji-17.0.0/package is not there.*zoo.sources"):
        check_there(["easy-vqa", "scenes"], tmp_path)
    (tmp_path / "openmoji-17.0.0" / "package").mkdir(parents=True)
    check_there(["easy-vqa", "scenes", "openmoji", "speed"], tmp_path)
    with pytest.raises(DataError, match="apt-get download tuxpaint-stamps-default"):
        check_there(["openmoji", "stamps"], tmp_path)


def test_limits_reach_the_commands(plan: Plan, called: list[list[str]]) -> None:
    small = replace(plan, limit=20, baseline_limit=5, named=True)
    for trial in trials(small):
        trial.run(small)
    limits = {words[words.index("--json") + 1].rsplit("/", 1)[-1]: words[words.index("--limit") + 1]
              for words in called}  # fmt: skip
    assert limits["openmoji.json"] == limits["photographs.json"] == "20"
    assert limits["scenes-text.json"] == "5"
    assert all(words[words.index("--model") + 1] == str(plan.model) for words in called)
    assert "speed.json" not in limits


def test_results_of_another_model_are_left_out(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(plan, "openmoji", result("openmoji"))
    write(plan, "scenes", result("scenes", sha256="cd" * 32))
    assert results(plan) == [mine]
    assert "scenes: of another model, left out" in capsys.readouterr().out


def test_tables_tell_the_results() -> None:
    records = {
        "openmoji": result("openmoji", score=12.5),
        "openmoji-shuffled": result("openmoji", "shuffled", 1.5) | {"questions": 1},
        "speed": {"results": [{"scenario": "new-image", "ttft_ms": {"p50": 81.2},
                               "total_ms": {"p50": 300.4}}]},
    }  # fmt: skip
    records["dialogues"] = result("dialogues") | {
        "metrics": {"accuracy": 50.0, "accuracy.capital": 25.0, "n.capital": 4.0},
        "beside": {"shuffled": {"accuracy.capital": 0.0}},
    }
    tables = blocks(records)
    assert "| capital | 4 | 25.0 | 0.0 |  |" in tables["all"]
    line = next(x for x in tables["headline"].splitlines() if "OpenMoji" in x)
    assert line.endswith("| 2 | **12.50** |  | 1.50 (of 1) | 8.00 |")
    assert "| - flags | 1 | 25.00 |" in tables["all"]
    assert "35 / 60" in tables["all"] and "35 / 60" not in tables["headline"]
    assert "openmoji 50.0%" in tables["all"]  # one of two says "not sure"
    assert "| new-image | 81 | 300 |" in tables["all"]
    text = page(records, SHA)
    command = "neva eval openmoji --data DIR --baseline shuffled --json openmoji-shuffled.json"
    assert f"`{command}`" in text
    assert SHA in text


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- evidence: headline -->\nold\n<!-- /evidence -->\nb\n")
    assert fill(path, "headline", "| new \\1 |")
    assert path.read_text() == (
        "a\n<!-- evidence: headline -->\n| new \\1 |\n<!-- /evidence -->\nb\n"
    )
    assert not fill(path, "all", "x")
    assert "old" not in path.read_text() and "x" not in path.read_text()


def test_speed_is_told_in_the_notes(tmp_path: Path) -> None:
    times = {"p50": 81.2}
    record = {"asked": {"width": 640, "height": 480}, "machine": "2 cores of X, AVX2",
              "results": [{"scenario": "new-image", "requests": 16, "ttft_ms": times,
                           "total_ms": {"p50": 300.4}}]}  # fmt: skip
    text = speed_note(record)
    assert (
        "first word after 81 ms, whole answer after 300 ms (median of 16; 2 cores of X, AVX2)"
        in text
    )
    path = tmp_path / "notes.json"
    path.write_text(json.dumps({"name": "é", "speed": "old", "ethics": "x"}))
    evidence.note(path, "speed", text)
    assert json.loads(path.read_text()) == {"name": "é", "speed": text, "ethics": "x"}


def test_the_pages_tell_the_committed_results_of_the_committed_weights() -> None:
    root = Path(__file__).parents[2]
    files = sorted((root / "zoo" / "results").glob("*.json"))
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    sha256 = {record["asked"]["sha256"] for record in records.values()}
    assert len(sha256) == 1, "results of several models lie side by side"
    pages = {page: (root / page).read_text(encoding="utf-8") for page in PAGES}
    for name, text in blocks(records).items():
        told = [page for page, held in pages.items() if f"<!-- evidence: {name} -->" in held]
        assert told, name
        for told_page in told:
            missing = [row for row in text.splitlines() if row not in pages[told_page]]
            assert not missing, (told_page, name)


def test_two_runs_do_not_write_into_one_folder(plan: Plan) -> None:
    with (
        evidence.alone(plan.work, plan.out),
        pytest.raises(DataError, match="another run writes into"),
        evidence.alone(plan.work, plan.out),
    ):
        pass
    with evidence.alone(plan.work, plan.out), evidence.alone(plan.work, plan.out / "x"):
        pass


def test_a_damaged_result_is_named(plan: Plan) -> None:
    (plan.out / "openmoji.json").write_text("{")
    trial = Trial("openmoji", "neva", ())
    with pytest.raises(DataError, match=r"openmoji\.json is not a result"):
        trial.done(plan)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_checkpoint_is_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real commands, on a tiny checkpoint and two questions of easy-VQA."""
    root = Path(__file__).parents[2]
    tiny = runpy.run_path(str(root / "tests" / "engine" / "tiny_llava.py"))["write_checkpoint"]
    monkeypatch.chdir(root)
    out = tmp_path / "out"
    words = ["--model", tiny(tmp_path / "tiny"), "--limit", 2, "--only", "easy-vqa"]
    words += ["--out", out, "--work", tmp_path / "work"]
    for _ in range(2):  # the second time everything is there
        assert evidence.main([str(word) for word in words]) == 0
    assert capsys.readouterr().out.count("there already") == 3
    made = {path.name for path in out.iterdir()}
    assert {"easy-vqa.json", "easy-vqa-text.json", "easy-vqa-shuffled.json", "README.md",
            "card.md", "card.easy-vqa.png", "confusions.md", "confusions.png"} <= made  # fmt: skip
    assert "| easy-VQA, test split | 2 (part) |" in (out / "README.md").read_text()
    assert "![Hits and misses of easy-vqa](card.easy-vqa.png)" in (out / "card.md").read_text()
