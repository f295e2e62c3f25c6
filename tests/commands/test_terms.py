"""Whoever serves, asks or exports a checkpoint is told what its data's licences forbid."""

import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from neva.cli import main
from neva.commands.serve import opener
from neva.errors import NevaError
from neva.model import Checkpoint, DatasetUsed

SENTENCE = "Not for commercial use: it learned from LLaVA-Instruct-150K (CC-BY-NC-4.0)."


@pytest.fixture
def bound(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that learned from such data, and from other."""
    folder = Path(copytree(checkpoint, tmp_path / "bound"))
    used = (
        DatasetUsed("LLaVA-Instruct-150K", licence="CC-BY-NC-4.0"),
        DatasetUsed("easy-vqa", licence="MIT"),
    )
    replace(Checkpoint.open(folder).provenance, datasets=used).write(folder)
    return folder


def neva(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["neva", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_export_says_it_and_hands_it_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    bound: Path, checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    assert neva(monkeypatch, "export", bound, "hf", "-o", tmp_path / "out") == 0
    assert f"bound: {SENTENCE}" in capsys.readouterr().err
    assert Checkpoint.open(tmp_path / "out").provenance.non_commercial == SENTENCE
    assert neva(monkeypatch, "export", checkpoint, "hf", "-o", tmp_path / "free") == 0
    assert "commercial" not in capsys.readouterr().err


def test_chat_says_it_beside_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    bound: Path, picture: Path,
) -> None:  # fmt: skip
    words = ("chat", picture, "what is it?", "--model", bound, "--max-tokens", 2)
    assert neva(monkeypatch, *words) == 0
    said = capsys.readouterr()
    assert SENTENCE in said.err and SENTENCE not in said.out


def test_serve_says_it_before_the_engine_opens(
    capsys: pytest.CaptureFixture[str], bound: Path
) -> None:
    opener(bound, "openvino", None)
    assert f"bound: {SENTENCE}" in capsys.readouterr().err
    with pytest.raises(NevaError, match="nonsense"):
        opener(bound, "nonsense", None)
    assert capsys.readouterr().err == "", "what cannot be served needs no terms"
