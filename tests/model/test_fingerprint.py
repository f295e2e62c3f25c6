"""A checkpoint's fingerprint: the same for the same weights, another where any tensor differs."""

import shutil
from pathlib import Path

import pytest

from neva.model import Checkpoint
from neva.model.rewrite import rewrite
from neva.model.weights import tensor_entries


def changed(checkpoint: Checkpoint, out: Path, name: str, place: float) -> str:
    """The fingerprint of a copy in which one byte of a tensor is another."""
    shutil.copytree(checkpoint.path, out)
    entry = tensor_entries(out)[name]
    with entry.file.open("r+b") as stream:
        stream.seek(entry.start + int((entry.stop - entry.start) * place))
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    return Checkpoint.open(out).fingerprint


def test_the_same_weights_however_they_are_cut(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    source = composed["llama"]
    assert len(source.fingerprint) == 16 and int(source.fingerprint, 16) >= 0
    again = rewrite(source, tmp_path / "again", shard_bytes=20_000)
    assert len({entry.file for entry in tensor_entries(again.path).values()}) > 1
    assert again.fingerprint == source.fingerprint
    assert len({one.fingerprint for one in composed.values()}) == len(composed)


@pytest.mark.parametrize("place", [0.0, 0.5])
@pytest.mark.parametrize(
    "name", ["multi_modal_projector.linear_2.bias", "language_model.model.norm.weight"]
)
def test_one_tensor_changes_it(
    composed: dict[str, Checkpoint], tmp_path: Path, name: str, place: float
) -> None:
    source = composed["llama"]
    assert changed(source, tmp_path / "other", name, place) != source.fingerprint
