"""`neva import` by its words: what it prints, where, and what it says of a guess."""

import sys
from pathlib import Path

import pytest
from called import exit_code

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))  # the model room's small models
from foreign_layouts import whole, write_llava, write_nemo
from small import write_clip


def test_a_llava_is_imported_by_the_command_and_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = whole(tmp_path, write_clip(tmp_path / "clip"))
    folder = write_llava(tmp_path / "theirs", made, mm_vision_tower="openai/none")
    words = ("import", folder, "--vision", made.clip, "-o", tmp_path / "ours")
    assert exit_code(monkeypatch, *words) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'ours'}\n"
    assert "prompts are written by the template 'v1', as nothing there says which" in printed.err
    assert "4 image tokens of id 258" in printed.err
    assert (tmp_path / "ours" / "neva.json").is_file()


def test_a_nemo_is_imported_and_a_refusal_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = whole(tmp_path, write_clip(tmp_path / "clip"))
    archive = write_nemo(tmp_path / "neva.nemo", made)
    capsys.readouterr()
    assert exit_code(monkeypatch, "import", archive, "-o", tmp_path / "ours") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"neva: {archive}: a NeMo archive has no Hugging Face tokenizer")
    assert exit_code(monkeypatch, "export", archive, "hf", "-o", tmp_path / "ours") == 1
    assert f"`neva import {archive} --language LM -o DIR`" in capsys.readouterr().err
    language = ["--language", made.words, "--template", "nvgpt"]
    assert exit_code(monkeypatch, "import", archive, *language, "-o", tmp_path / "ours") == 0
    assert "template nvgpt" in capsys.readouterr().err
