"""A tiny random checkpoint and a picture, for commands that run for real."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

TINY = Path(__file__).parents[1] / "engine" / "tiny_llava.py"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "tiny"
    made: Path = runpy.run_path(str(TINY))["write_checkpoint"](folder)
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path
