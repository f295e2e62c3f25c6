"""A tiny random checkpoint and a picture, for commands that run for real."""

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from neva.engine import open_engine
from neva.engine.protocol import Engine

TINY = Path(__file__).parents[1] / "engine" / "tiny_llava.py"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "tiny"
    made: Path = runpy.run_path(str(TINY))["write_checkpoint"](folder)
    return made


@pytest.fixture(scope="session")
def engine(checkpoint: Path) -> Iterator[Engine]:
    """The real engine over it, opened once."""
    opened = open_engine(checkpoint)
    yield opened
    opened.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path
