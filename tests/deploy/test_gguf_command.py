"""`neva export ... gguf` as a command: a full disk, and a checkpoint called `.` with an adapter."""

import subprocess
import sys
from pathlib import Path

import gguf_models as models
import pytest
import torch
from typer.testing import CliRunner

from neva.cli import app
from neva.model import Checkpoint
from neva.model.adapter import LoraShape, add_lora, save_adapter
from neva.model.load import load_model

LIMITED = (
    "import resource, sys\n"
    "limit = int(sys.argv.pop(1))\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
    "from neva.cli import main\n"
    "main()\n"
)


@pytest.mark.parametrize("where", ["in the last bias", "in a matrix"])
def test_a_full_disk_is_named(tmp_path: Path, where: str) -> None:
    """numpy loses 256 bytes without a word, and has no words for a matrix that went half."""
    path = models.tiny(tmp_path / "tiny")
    files = models.exported(path, tmp_path / "whole", "q8_0")
    words, eyes = (file.stat().st_size for file in files)
    assert words < eyes - 100  # both that one file may have
    limit = eyes - 100 if where == "in the last bias" else words // 2
    place = tmp_path / "place"
    place.mkdir()
    asked = ["export", str(path), "gguf", "-o", str(place / "out")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *asked],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and not list(place.iterdir())
    assert "make room there or choose another output folder" in done.stderr
    assert str(place) in done.stderr and "requested" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("named", [".", ".."])
def test_a_merged_checkpoint_keeps_its_folders_name(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = models.tiny(tmp_path / "mine")
    model = load_model(Checkpoint.open(checkpoint))
    for parameter in add_lora(model, LoraShape(rank=2, alpha=4)).values():
        torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(model, tmp_path / "adapter")
    (checkpoint / "inside").mkdir()
    monkeypatch.chdir(checkpoint if named == "." else checkpoint / "inside")
    asked = ["gguf", "-o", str(tmp_path / "out"), "--adapter", str(tmp_path / "adapter")]
    done = CliRunner().invoke(app, ["export", named, *asked], catch_exceptions=False)
    assert done.exit_code == 0
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "mine-q8_0.gguf", "mine-mmproj-f16.gguf"}
    assert {one.name for one in tmp_path.iterdir()} == {"mine", "adapter", "out"}
