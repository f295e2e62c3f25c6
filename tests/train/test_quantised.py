"""QLoRA: refused with the remedy where it cannot run; with bitsandbytes the LM lies in 4 bits."""

import importlib.util
from pathlib import Path

import pytest
import torch
from small import write_clip, write_language

from neva.errors import NevaError
from neva.model import Checkpoint
from neva.model.compose import compose
from neva.train.learner import Learner, add_recipes_lora
from neva.train.quantised import check_able, quantised
from neva.train.recipe import Recipe
from neva.train.sharding import IDLE, Whole

QLORA = Recipe(stage="finetune", lora=True, lora_rank=4, qlora=True, max_length=512)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_the_remedy_is_named(parent: Checkpoint) -> None:
    with pytest.raises(NevaError, match=r"needs a CUDA device.*--lora alone"):
        Learner(parent, QLORA)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is there")
def test_without_bitsandbytes_the_remedy_is_named() -> None:
    with pytest.raises(NevaError, match=r"pip install 'neva-vlm\[qlora\]'"):
        check_able("cuda:0")


@pytest.mark.parametrize("changes", [{"lora": False}, {"shard": 0}, {"tensor_parallel": 2}])
def test_recipes_that_cannot_be_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="qlora"):
        QLORA.with_values(**changes)


def test_an_adapter_learns_over_four_bits(tmp_path: Path) -> None:
    """On a CPU, which bitsandbytes has too: the LM's matrices are NF4, only the adapter learns."""
    pytest.importorskip("bitsandbytes")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}  # blocks of 64 weights
    language = write_language(tmp_path / "lm", "llama", **sizes)
    parent = compose(write_clip(tmp_path / "clip"), language, "mlp2x_gelu", tmp_path / "model")
    model = quantised(parent, "cpu", torch.bfloat16)
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds.count("Linear4bit") == 7 * model.config.text_config.num_hidden_layers
    model.requires_grad_(False)
    add_recipes_lora(model, QLORA)
    assert model.lm_head.weight.dtype == torch.bfloat16
    out = Whole(model, parent.pixels).model.model.language_model(
        inputs_embeds=model.get_input_embeddings()(IDLE.ids)[None], use_cache=False
    )
    out.last_hidden_state.float().square().sum().backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned and all("lora_" in name for name in learned)
