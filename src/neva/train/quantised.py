"""QLoRA (Dettmers et al. 2023): the frozen LM in 4 bits beneath the adapter, through bitsandbytes.

Only for learning: what is written at the end is the adapter merged into the parent's own weights.
"""

import importlib.util

import torch
from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration

from neva.errors import NevaError
from neva.model import Checkpoint
from neva.model.attention import register_packed_attention
from neva.model.quiet import quiet_transformers

# What is small, is frozen in full precision everywhere else, or learns as a whole.
KEPT = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


def load_quantised(
    parent: Checkpoint, device: str, dtype: torch.dtype, tower: bool = True
) -> LlavaForConditionalGeneration:
    """The parent's model to learn an adapter on; NevaError without CUDA or bitsandbytes."""
    check_able(device)
    model = quantised(parent, device, dtype)
    if not tower:
        model.model.vision_tower = None
    return model


def quantised(parent: Checkpoint, device: str, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The parent's model with its LM's matrices in NF4, doubly quantised; the rest in `dtype`."""
    kind = register_packed_attention()
    with quiet_transformers():
        model = LlavaForConditionalGeneration.from_pretrained(
            parent.path,
            dtype=dtype,
            attn_implementation={"": "sdpa", "vision_config": "sdpa", "text_config": kind},
            use_safetensors=True,
            device_map={"": device},
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
                llm_int8_skip_modules=list(KEPT),
            ),
        )
    if not model.model.multi_modal_projector.linear_1.weight.is_floating_point():
        raise NevaError(
            "--qlora: this version of transformers quantises the projector too, which has to "
            "learn; use a version that neva is tested with, 5.23."
        )
    return model.eval()


def check_able(device: str) -> None:
    """NevaError, with what to do, where 4 bits cannot be computed with."""
    if not device.startswith("cuda"):
        raise NevaError(
            "--qlora needs a CUDA device, and torch sees none: train with --lora alone."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NevaError(
            "--qlora needs bitsandbytes: install it with `pip install 'neva-vlm[qlora]'`, or train "
            "with --lora alone."
        )
