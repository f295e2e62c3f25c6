"""LLaVA's LoRA folders: peft's own sum, or a sentence."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_layouts import (
    Whole,
    llava_config,
    whole,
)
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from neva.errors import CheckpointError
from neva.model.importing.door import import_checkpoint
from neva.model.weights import read_weights


def with_lora(made: Whole, folder: Path, **settings: Any) -> Any:
    """A LoRA folder as LLaVA's train.py leaves it; returns peft's own merge of it."""
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    shape = LoraConfig(r=3, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM")
    torch.manual_seed(5)
    wrapped = get_peft_model(made.language, shape)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    wrapped.save_pretrained(folder, safe_serialization=True)
    (folder / "config.json").write_text(json.dumps(llava_config(made)))
    others = {
        f"base_model.model.model.mm_projector.{n}": t
        for n, t in made.projector.state_dict().items()
    }
    torch.save(others, folder / "non_lora_trainables.bin")
    record = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**record, **settings}))
    return wrapped


def test_a_lora_folder_is_merged_as_peft_does(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip)
    wrapped = with_lora(made, tmp_path / "lora")
    imported = import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))
    merged = wrapped.merge_and_unload().state_dict()
    tensors = read_weights(imported.checkpoint.path)
    before = load_file(made.words / "model.safetensors")
    moved = 0
    for name, tensor in merged.items():
        if name.startswith("model.layers."):
            ours = torch.tensor(tensors[f"language_model.{name}"])
            torch.testing.assert_close(ours, tensor, atol=1e-6, rtol=0)
            moved += not torch.equal(ours, before[name])
    assert moved == 10


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 4}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"alora_invocation_tokens": [70, 71]},
        {"a_switch_of_tomorrow": True},
    ],
)
def test_loras_of_another_sum_are_refused(
    clip: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora", **settings)
    with pytest.raises(CheckpointError, match="neva merges plain LoRA only"):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 64}, "is not of rank 64"),
        ({"r": True}, "not two numbers"),
        ({"lora_alpha": math.nan}, "not two numbers"),
        ({"peft_type": None}, "peft_type is None, and neva merges plain LoRA only"),
    ],
)
def test_loras_whose_numbers_are_wrong_are_refused(
    clip: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora", **settings)
    with pytest.raises(CheckpointError, match=words):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


@pytest.mark.parametrize("shape", [(), (32,)])
def test_halves_that_are_no_matrices_are_refused(
    clip: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_model.safetensors"
    save_file({name: torch.ones(shape) for name in load_file(file)}, file)
    with pytest.raises(CheckpointError, match="does not fit its shape"):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


def test_a_lora_folder_that_lost_its_projector(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora")
    (tmp_path / "lora" / "non_lora_trainables.bin").unlink()
    with pytest.raises(CheckpointError, match=r"non_lora_trainables.bin is missing"):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))
