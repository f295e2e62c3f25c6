"""The Python and the probe file that docs/training.md shows, as they stand there."""

import json
import re
import sys
from pathlib import Path

import pytest

from neva.model import Checkpoint
from neva.train.questions import read_questions

sys.path.append(str(Path(__file__).parents[1]))
from documents import ROOT, fences

MANUAL = ROOT / "docs" / "training.md"


def test_the_python_example_trains(
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, there in (("model", parent.path), ("chat.json", data), ("images", pictures)):
        (tmp_path / name).symlink_to(there)
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code in fences(MANUAL, "python") if "neva.train.loop" in code)
    exec(compile(code, str(MANUAL), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("stage1/final ")
    assert "1 " in said[1] and len(said) == 2
    assert Checkpoint.open(tmp_path / "stage1" / "final").provenance.stage == "pretrained"


def test_the_probe_shown_can_be_read(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^  ```json\n(.*?)^  ```", MANUAL.read_text(), re.M | re.S)
    file = tmp_path / "probe.json"
    file.write_text(json.dumps(json.loads(shown)))
    (question,) = read_questions(file)
    assert question.judge(" Red.") and question.judge("blue") is False
