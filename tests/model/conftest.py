"""Small models, made once per session, and one composed checkpoint per family of LMs."""

from pathlib import Path

import pytest
import torch
from foreign_layouts import Whole, whole
from small import LANGUAGES, write_clip, write_language

from neva.model import Checkpoint
from neva.model.compose import compose

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="session")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("languages")
    return {family: write_language(folder / family, family) for family in LANGUAGES}


@pytest.fixture(scope="session")
def composed(
    clip: Path, languages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Checkpoint]:
    """One checkpoint per family, in float32, so that parity can be exact."""
    folder = tmp_path_factory.mktemp("composed")
    return {
        family: compose(clip, language, "mlp2x_gelu", folder / family, dtype="float32")
        for family, language in languages.items()
    }


@pytest.fixture(scope="module")
def made(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole(tmp_path_factory.mktemp("llava"), clip)


@pytest.fixture(scope="module")
def wholes(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """4 heads in 2 groups, so that a group has two queries."""
    folder = tmp_path_factory.mktemp("nemo")
    return {name: whole(folder / name, clip, name) for name in ("llama", "nemotron")}
