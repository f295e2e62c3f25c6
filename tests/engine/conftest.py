"""Tiny checkpoints as fixtures, each made once per session."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_llava import write_checkpoint


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_checkpoint(family, **changes) -> Path`."""
    made: dict[str, Path] = {}

    def make(family: str = "llama", **changes: object) -> Path:
        key = f"{family} {sorted(changes.items())}"
        if key not in made:
            made[key] = write_checkpoint(tmp_path_factory.mktemp(family), family, **changes)  # type: ignore[arg-type]
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny(make_checkpoint: Callable[..., Path]) -> Path:
    """The tiny llama checkpoint."""
    return make_checkpoint("llama")
