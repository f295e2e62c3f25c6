"""Load a checkpoint into transformers' LLaVA class, and refuse one that does not fill it.

The weights come from `neva.model.stored`, one tensor at a time and without a mapped file, so that
loading takes no more memory than the model in its own dtype and one tensor in the file's.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
import transformers
from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

from neva.errors import CheckpointError
from neva.model.attention import register_packed_attention
from neva.model.checkpoint import Checkpoint
from neva.model.keys import VISION, disk_name
from neva.model.quiet import quiet_transformers
from neva.model.stored import Stored, stored_tensors

Attention = Literal["packed", "sdpa", "eager"]
Part = Literal["vision", "language"]


def load_model(
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    attention: Attention = "packed",
    without: Collection[Part] = (),
) -> LlavaForConditionalGeneration:
    """The checkpoint's model in evaluation mode; `dtype` None keeps the one on disk.

    `attention` is the language model's: "packed" keeps the documents of `packed_forward` apart and
    is SDPA otherwise. A part that it is loaded `without` is None in it: "vision" the tower,
    "language" the language model, its head and the projector. CheckpointError if a single tensor
    would be random.
    """
    kind = register_packed_attention() if attention == "packed" else attention
    tower = "eager" if attention == "eager" else "sdpa"
    stored = stored_tensors(checkpoint.path)
    with quiet_transformers():
        model, report = LlavaForConditionalGeneration.from_pretrained(
            None,
            config=LlavaConfig.from_pretrained(checkpoint.path),
            state_dict={name: _wanted(name, one, without) for name, one in stored.items()},
            dtype=dtype or _dtype_on_disk(checkpoint, stored),
            attn_implementation={"": tower, "vision_config": tower, "text_config": kind},
            output_loading_info=True,
        )
        if (checkpoint.path / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(checkpoint.path)
    random = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if random:
        raise CheckpointError(
            f"{checkpoint.path}: transformers {transformers.__version__} does not find "
            f"{len(random)} of its tensors there, first {random[0]}; write it anew with "
            "`neva export CHECKPOINT hf -o DIR`."
        )
    _leave_out(model, without)
    return model.to(device).eval()


def _wanted(name: str, stored: Stored, without: Collection[Part]) -> Stored:
    """A tensor of a part that is left out is one zero, seen in every place."""
    part = "vision" if disk_name(name).startswith(VISION) else "language"
    return stored.nothing() if part in without else stored


def _dtype_on_disk(checkpoint: Checkpoint, stored: Mapping[str, Stored]) -> torch.dtype:
    """What `config.json` says or, where it says nothing, what the first tensor is in."""
    if checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype"):
        named: torch.dtype = getattr(torch, checkpoint.dtype)
        return named
    kinds = (one.dtype for one in stored.values())
    return next((kind for kind in kinds if kind.is_floating_point), torch.float32)


def _leave_out(model: Any, without: Collection[Part]) -> None:
    if "vision" in without:
        model.model.vision_tower = None
    if "language" in without:
        model.model.language_model = model.model.multi_modal_projector = model.lm_head = None
