"""LoRA: starts as nothing, learns alone, merges exactly, and comes back from disk."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from small import LANGUAGES

from neva.errors import CheckpointError
from neva.model import Checkpoint, Provenance
from neva.model.adapter import (
    LoraShape,
    add_lora,
    load_adapter,
    merge_lora,
    save_adapter,
    start_from,
)
from neva.model.load import load_model
from neva.model.save import save_checkpoint

SHAPE = LoraShape(rank=4, alpha=8)
IDS = torch.tensor([[256, 10, 20, 30]])


def trained(checkpoint: Checkpoint) -> torch.nn.Module:
    """A model whose adapter has become something."""
    model = load_model(checkpoint)
    torch.manual_seed(3)
    for parameter in add_lora(model, SHAPE).values():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("family", LANGUAGES)
def test_added_changes_nothing_and_only_it_learns(
    family: str, composed: dict[str, Checkpoint]
) -> None:
    model = load_model(composed[family])
    with torch.no_grad():
        before = model(input_ids=IDS).logits
    learning = add_lora(model, SHAPE)
    after = model(input_ids=IDS).logits
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    after.sum().backward()
    grown = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grown == set(learning) and len(grown) > 8


@pytest.mark.parametrize("family", LANGUAGES)
def test_merged_and_saved_is_the_adapted_model(
    family: str, composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    checkpoint = composed[family]
    model = trained(checkpoint)
    with torch.no_grad():
        adapted = model(input_ids=IDS).logits
        plain = load_model(checkpoint)(input_ids=IDS).logits
        merged = merge_lora(model)(input_ids=IDS).logits
    assert not torch.allclose(adapted, plain, atol=1e-2)
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    provenance = Provenance(stage="finetuned", template="v1")
    saved = save_checkpoint(model, checkpoint, tmp_path / "out", provenance)
    with torch.no_grad():
        torch.testing.assert_close(load_model(saved)(input_ids=IDS).logits, merged)


def test_an_unmerged_model_is_not_saved(composed: dict[str, Checkpoint], tmp_path: Path) -> None:
    checkpoint = composed["llama"]
    with pytest.raises(CheckpointError, match="merged before"):
        save_checkpoint(
            trained(checkpoint), checkpoint, tmp_path / "o", Provenance("finetuned", "v1")
        )


def test_back_from_disk_by_us_and_by_plain_peft(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    checkpoint = composed["llama"]
    model = trained(checkpoint)
    torch.nn.init.normal_(model.model.multi_modal_projector.linear_1.weight)
    folder = save_adapter(model, tmp_path / "adapter")
    ours = load_model(checkpoint)
    load_adapter(ours, folder)
    theirs = PeftModel.from_pretrained(load_model(checkpoint), folder)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        torch.testing.assert_close(ours(input_ids=IDS).logits, expected, rtol=0, atol=0)
        torch.testing.assert_close(theirs(input_ids=IDS).logits, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        ours.model.multi_modal_projector.linear_1.weight,
        model.model.multi_modal_projector.linear_1.weight,
    )


def test_refuses_unknown_layers_and_foreign_adapters(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no layer 'q_prj' for an adapter; it has down_proj"):
        add_lora(load_model(composed["llama"]), LoraShape(targets=("q_prj",)))
    with pytest.raises(CheckpointError, match="not a saved adapter"):
        load_adapter(load_model(composed["llama"]), tmp_path)
    picked = add_lora(load_model(composed["llama"]), LoraShape(rank=2, targets=("q_proj",)))
    assert len(picked) == 4 and all(".q_proj." in name for name in picked)


def test_a_new_adapter_starts_from_a_saved_one(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    checkpoint = composed["llama"]
    folder = save_adapter(trained(checkpoint), tmp_path / "adapter")
    model = load_model(checkpoint)
    torch.nn.init.normal_(model.model.multi_modal_projector.linear_1.weight)
    before = model.model.multi_modal_projector.linear_1.weight.clone()
    new = add_lora(model, SHAPE)
    start_from(model, folder)
    old = trained(checkpoint)
    for name, parameter in old.named_parameters():
        if ".lora_" in name:
            assert torch.equal(new[name], parameter)
    assert torch.equal(model.model.multi_modal_projector.linear_1.weight, before)
    wider = load_model(checkpoint)
    add_lora(wider, LoraShape(rank=8, alpha=8))
    with pytest.raises(CheckpointError, match="--lora-rank 4 --lora-alpha 8"):
        start_from(wider, folder)
