"""`neva bench` with a real engine and a tiny model."""

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from called import exit_code
from rich.console import Console

from neva.cli import main
from neva.commands import bench, opening
from neva.engine.protocol import EngineInfo
from neva.errors import EngineError
from neva.evaluate.speed import Work


def test_measures_and_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "bench.json"
    size = "--requests 3 --max-tokens 6 --width 40 --height 30 --concurrency 1 --concurrency 2"
    words = [*size.split(), "--model", checkpoint, "--json", out]
    monkeypatch.setattr(sys, "argv", ["neva", "bench", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert "new-image" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [(one["scenario"], one["concurrency"]) for one in found["results"]] == [
        (scenario, under_way)
        for scenario in ("new-image", "same-image", "second-turn", "text")
        for under_way in (1, 2)
    ]
    for one in found["results"]:
        assert 0 < one["ttft_ms"]["p50"] <= one["total_ms"]["p50"]
        assert one["completion_tokens"] <= 6 * one["requests"]
        assert one["tokens_per_s"] > 0
    assert found["asked"]["precision"] == "int8"
    assert found["asked"]["seed"] >= 0


FIGURES = {
    "scenario": "text", "concurrency": 1, "ttft_ms": {}, "itl_ms": {}, "total_ms": {},
    "tokens_per_s": None, "requests_per_s": 1.0,
}  # fmt: skip


class Still:
    """A model that nobody asks anything."""

    info = EngineInfo("still", "remote", "unknown", 64, 4, True)

    def close(self) -> None:
        return None


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What is benchmarked, instead of a benchmark."""
    given: list[Work] = []

    def measured(engine: object, work: Work, *_: object) -> dict[str, Any]:
        given.append(work)
        return FIGURES

    monkeypatch.setattr(bench, "open_model", lambda *_: (Still(), {"model": "still"}))
    monkeypatch.setattr(bench, "benchmark", measured)
    return given


def test_new_pictures_are_new_in_every_run(
    monkeypatch: pytest.MonkeyPatch, works: list[Work], tmp_path: Path
) -> None:
    out = tmp_path / "bench.json"
    one = ("--scenario", "new-image", "--concurrency", "1", "--concurrency", "1")
    assert [exit_code(monkeypatch, "bench", *one, "--json", out) for _ in range(2)] == [0, 0]
    assert len(works) == 2, "the same concurrency twice would not be new the second time"
    assert works[0].seed != works[1].seed
    assert json.loads(out.read_text())["asked"]["seed"] == works[1].seed
    assert exit_code(monkeypatch, "bench", *one, "--seed", "7") == 0
    assert works[2].seed == 7


def test_says_where_no_tokens_were_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], works: list[Work]
) -> None:
    assert exit_code(monkeypatch, "bench", "--scenario", "text") == 0
    assert "not told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--json", "no/where.json"), 1, "does not exist"),
        (("--json", "."), 1, "is a folder"),
        (("--width", "100000", "--height", "100000"), 2, "64,000,000 pixels at most"),
        (("--url", "x", "--engine", "torch"), 2, "with --url the server's"),
        (("--name", "x"), 2, "it needs --url"),
    ],
)
def test_refuses_before_it_measures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, words: tuple[str, ...], code: int, says: str,
) -> None:  # fmt: skip
    def never(*_: object) -> None:
        raise AssertionError("measured before it checked")

    monkeypatch.setattr(bench, "benchmark", never)
    monkeypatch.setattr(opening, "RemoteEngine", never)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert exit_code(monkeypatch, "bench", *words) == code
    assert says in capsys.readouterr().err


def test_the_table_survives_a_result_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    works: list[Work], tmp_path: Path,
) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench, "write_whole", full)
    assert exit_code(monkeypatch, "bench", "--scenario", "text", "--json", tmp_path / "b.json") == 1
    shown = capsys.readouterr()
    assert "requests/s" in shown.out
    assert "No space left" in shown.err


def test_the_figures_survive_a_table_whose_reader_has_left(
    monkeypatch: pytest.MonkeyPatch, works: list[Work], tmp_path: Path
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(bench.Console, "print", gone)
    out = tmp_path / "b.json"
    assert exit_code(monkeypatch, "bench", "--scenario", "text", "--json", out) != 0
    assert json.loads(out.read_text())["results"]


def test_seconds_do_not_break_a_line() -> None:
    long = {"p50": 14042.4, "p95": 14043.6, "p99": 14044.0}
    times = {"ttft_ms": long, "itl_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0}, "total_ms": long}
    told = FIGURES | times | {"scenario": "second-turn", "tokens_per_s": 1234.5}
    page = Console(width=bench.WIDTH, record=True, file=StringIO())
    page.print(bench.table([told], "m"))
    line = next(line for line in page.export_text().splitlines() if "second-turn" in line)
    assert line.count("14042 / 14044 / 14044") == 2
    assert "1.0 / 2.0 / 3.0" in line


@pytest.mark.parametrize("end", [EngineError("the server answered 500"), KeyboardInterrupt()])
def test_what_was_measured_survives_a_later_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    works: list[Work], tmp_path: Path, end: BaseException,
) -> None:  # fmt: skip
    def breaks(_: object, __: object, scenario: str, under_way: int, ___: int) -> dict[str, Any]:
        if under_way == 2:
            raise end
        return FIGURES

    monkeypatch.setattr(bench, "benchmark", breaks)
    out = tmp_path / "b.json"
    words = ("--scenario", "text", "--concurrency", "1", "--concurrency", "2", "--json", out)
    assert exit_code(monkeypatch, "bench", *words) != 0
    assert "1 of 2 measured" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert (len(found["results"]), found["complete"]) == (1, False)
    monkeypatch.setattr(bench, "benchmark", lambda *_: FIGURES)
    assert exit_code(monkeypatch, "bench", *words) == 0
    assert json.loads(out.read_text())["complete"]
