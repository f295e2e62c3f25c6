"""`neva bench` with a real engine and a tiny model."""

import json
import sys
from pathlib import Path

import pytest

from neva.cli import main


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
