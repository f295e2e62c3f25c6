"""Graphs in the cache that have lost something are made anew: it is a cache."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neva.engine import open_engine
from neva.engine.graphs import export, find_export
from neva.engine.protocol import Chunk, Request, Sampling, collect
from neva.images import read_image
from neva.model.checkpoint import Checkpoint
from neva.prompts import ask
from neva.sealing import SIZES


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A checkpoint of its own, without graphs."""
    copy = tmp_path / "model"
    shutil.copytree(make_checkpoint("llama"), copy, ignore=shutil.ignore_patterns("openvino"))
    return copy


def answer(folder: Path, picture: Path) -> tuple[str, Chunk]:
    request = Request(ask("What?"), (read_image(picture),), Sampling(0.0, max_tokens=4))
    engine = open_engine(folder)
    try:
        return collect(engine.generate([request])[0])
    finally:
        engine.close()


@pytest.mark.parametrize(
    "name",
    [
        "openvino_language_model.bin",
        "openvino_text_embeddings_model.bin",
        "neva_vision_model.bin",
        "config.json",
        SIZES,
    ],
)
def test_an_engine_with_damaged_graphs_answers(name: str, folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    made = export(Checkpoint.open(folder), "int8").folder
    text, last = answer(folder, picture)
    assert last.finish == "length"
    os.truncate(made / name, (made / name).stat().st_size // 2)
    assert find_export(Checkpoint.open(folder), "int8") is None
    again, last = answer(folder, picture)
    assert last.finish == "length", last.error
    assert again == text
    assert [file.name for file in made.parent.iterdir()] == [made.name], "in the same place"


def test_graphs_of_an_older_neva_are_made_anew_once(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    made = export(checkpoint, "int8")
    (made.folder / SIZES).unlink()
    assert find_export(checkpoint, "int8") is None
    assert export(checkpoint, "int8") == made == find_export(checkpoint, "int8")


def test_a_copys_graphs_are_its_own_until_its_weights_are_written_again(
    folder: Path, tmp_path: Path
) -> None:
    made = export(Checkpoint.open(folder), "int8")
    copy = shutil.copytree(folder, tmp_path / "copy")
    for file in copy.rglob("*"):  # a container's layers know whole seconds only
        os.utime(file, (int(file.stat().st_mtime),) * 2)
    kept = find_export(Checkpoint.open(copy), "int8")
    assert kept is not None and kept.folder.name == made.folder.name
    weights, after = copy / "model.safetensors", (kept.folder / "export.json").stat().st_mtime + 1
    os.utime(weights, (after, after))  # what was changed may lie where nobody looks
    assert find_export(Checkpoint.open(copy), "int8") is None
    again = export(Checkpoint.open(copy), "int8")
    assert again.folder != kept.folder
    os.utime(again.folder / "export.json", (after - 9, after - 9))  # a clock that goes wrong
    assert find_export(Checkpoint.open(copy), "int8") == again
