"""Load a checkpoint into transformers' LLaVA class, and refuse one that does not fill it."""

from typing import Literal

import torch
import transformers
from transformers import LlavaForConditionalGeneration

from neva.errors import CheckpointError
from neva.model.attention import register_packed_attention
from neva.model.checkpoint import Checkpoint
from neva.model.quiet import quiet_transformers

Attention = Literal["packed", "sdpa", "eager"]


def load_model(
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    attention: Attention = "packed",
) -> LlavaForConditionalGeneration:
    """The checkpoint's model in evaluation mode; `dtype` None keeps the one on disk.

    `attention` is the language model's: "packed" keeps the documents of `packed_forward` apart and
    is SDPA otherwise. CheckpointError if a single tensor would be random.
    """
    kind = register_packed_attention() if attention == "packed" else attention
    tower = "eager" if attention == "eager" else "sdpa"
    with quiet_transformers():
        model, report = LlavaForConditionalGeneration.from_pretrained(
            checkpoint.path,
            dtype=dtype or "auto",
            attn_implementation={"": tower, "vision_config": tower, "text_config": kind},
            output_loading_info=True,
            use_safetensors=True,
        )
    random = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if random:
        raise CheckpointError(
            f"{checkpoint.path}: transformers {transformers.__version__} does not find "
            f"{len(random)} of its tensors there, first {random[0]}; write it anew with "
            "`neva export CHECKPOINT hf -o DIR`."
        )
    return model.to(device).eval()
