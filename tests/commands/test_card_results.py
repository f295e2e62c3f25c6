"""`neva card` tells a result for what it is: a baseline is no score, points are no percent."""

import json
from pathlib import Path
from typing import Any

import pytest
from called import exit_code

from neva.deploy.card import card
from neva.deploy.chart import bars
from neva.deploy.notes import Notes
from neva.model.checkpoint import Checkpoint

RESULT: dict[str, Any] = {
    "task": "gqa",
    "asked": {"suffix": "", "engine": "openvino", "precision": "int8", "baseline": "none"},
    "questions": 100,
    "of": 100,
    "metrics": {"accuracy": 61.5},
    "floor": {},
    "interval_95": [52.0, 71.0],
}
BLIND = RESULT | {"asked": RESULT["asked"] | {"baseline": "text"}}


def test_a_baseline_alone_is_no_score(checkpoint: Path) -> None:
    opened = Checkpoint.open(checkpoint)
    text = card(opened, [BLIND], Notes("x"))
    assert "| figure | text |" in text and "| figure | score |" not in text
    assert "No score of the model: asked without the picture." in text
    assert bars([BLIND]) == [("gqa\naccuracy", "text", 61.5)]
    other = BLIND | {"asked": BLIND["asked"] | {"baseline": "shuffled"}}
    assert "asked with another question's picture" in card(opened, [other], Notes("x"))
    assert "No score of the model" not in card(opened, [RESULT], Notes("x"))


def test_points_have_no_bar_among_percents() -> None:
    mme = RESULT | {"task": "mme", "metrics": {"perception": 1531.3}}
    assert bars([mme, RESULT]) == bars([RESULT]) != []


def test_a_result_that_names_no_weights_says_so(checkpoint: Path) -> None:
    opened = Checkpoint.open(checkpoint)
    told = "does not tell of which weights"
    assert told in card(opened, [RESULT], Notes("x"))
    for name, mine in (("sha256", opened.sha256), ("weights", opened.fingerprint)):
        known = RESULT | {"asked": RESULT["asked"] | {name: mine}}
        assert told not in card(opened, [known], Notes("x"))


@pytest.mark.parametrize(
    "change",
    [{"asked": []}, {"asked": {}}, {"floor": None}, {"metrics": {"accuracy": "high"}},
     {"beside": {"text": 3}}, {"beside": None}],
)  # fmt: skip
def test_what_is_no_result_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path, change: dict[str, Any],
) -> None:  # fmt: skip
    path = tmp_path / "r.json"
    path.write_text(json.dumps(RESULT))
    assert exit_code(monkeypatch, "card", checkpoint, "--result", path) == 0
    path.write_text(json.dumps(RESULT | change))
    assert exit_code(monkeypatch, "card", checkpoint, "--result", path) == 1
    assert "r.json is not a result of `neva eval`" in capsys.readouterr().err
