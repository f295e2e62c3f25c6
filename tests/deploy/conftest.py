"""What tests of other servers' formats share, with the server's and the engine's too."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "server"))  # environments of their own, pictures
sys.path.append(str(TESTS / "engine"))  # its tiny checkpoints
sys.path.append(str(TESTS / "model"))  # its small models


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that llama.cpp could have."""
    import gguf_models  # found by the paths above

    return gguf_models.tiny(tmp_path_factory.mktemp("gguf") / "tiny")


@pytest.fixture
def changed(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny checkpoint with other words in one of its JSON files."""
    import gguf_models

    def make(file: str = "config.json", **values: Any) -> Path:
        folder = tmp_path / "changed"
        folder.mkdir()
        for one in tiny.iterdir():
            if one.is_file():
                (folder / one.name).write_bytes(one.read_bytes())
        gguf_models.change(folder / file, **values)
        return folder

    return make
