"""Saved checkpoints: the same weights under our names, all files along, all or nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neva.errors import CheckpointError
from neva.model import Checkpoint, Provenance, read_tensors, write_tensors
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from neva.model.weights import tensor_entries

TRAINED = Provenance(stage="pretrained", template="v1", parents=("ab",))


def test_saving_what_was_loaded_changes_nothing(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    for family, checkpoint in composed.items():
        saved = save_checkpoint(load_model(checkpoint), checkpoint, tmp_path / family, TRAINED)
        before, after = read_tensors(checkpoint), read_tensors(saved)
        assert sorted(before) == sorted(after)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
        assert saved.provenance == TRAINED
        names = {file.name for file in checkpoint.path.iterdir()}
        assert {file.name for file in saved.path.iterdir()} == names


def test_saved_in_shards_and_another_dtype(composed: dict[str, Checkpoint], tmp_path: Path) -> None:
    checkpoint = composed["gpt2"]
    model = load_model(checkpoint)
    saved = save_checkpoint(
        model, checkpoint, tmp_path / "out", TRAINED, dtype="bfloat16", shard_bytes=20_000
    )
    assert len(list(saved.path.glob("*.safetensors"))) > 1 and saved.dtype == "bfloat16"
    again = load_model(saved)
    assert again.dtype == torch.bfloat16
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            again.get_parameter(name), parameter.to(torch.bfloat16), rtol=0, atol=0
        )


def test_a_failure_leaves_nothing(composed: dict[str, Checkpoint], tmp_path: Path) -> None:
    checkpoint = composed["llama"]
    model = load_model(checkpoint)
    broken = replace(checkpoint, config={**checkpoint.config, "text_config": {}})
    with pytest.raises(CheckpointError, match="are missing"):
        save_checkpoint(model, broken, tmp_path / "a" / "out", TRAINED)
    model.model.multi_modal_projector.linear_1 = torch.nn.Linear(24, 7)
    with pytest.raises(CheckpointError, match="has shape"):
        save_checkpoint(model, checkpoint, tmp_path / "b" / "out", TRAINED)
    assert [file for file in tmp_path.rglob("*") if file.name not in ("a", "b")] == []


def test_loading_refuses_what_transformers_would_fill_at_random(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    """A family that our header check does not know, with a tensor lost."""
    checkpoint = composed["llama"]
    folder = save_checkpoint(load_model(checkpoint), checkpoint, tmp_path / "x", TRAINED).path
    lost = "language_model.model.layers.1.mlp.up_proj.weight"
    tensors = {name: read_tensors(checkpoint)[name] for name in tensor_entries(folder)}
    del tensors[lost]
    write_tensors(folder, tensors)
    with pytest.raises(CheckpointError, match=lost):
        Checkpoint.open(folder)
    unchecked = Checkpoint(folder, json.loads((folder / "config.json").read_text()), TRAINED)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_model(unchecked)
