"""Read the vision tower that a checkpoint is composed from: a CLIP, whole or its vision half."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, CLIPVisionModel
from transformers.image_processing_base import ImageProcessingMixin

from neva.errors import CheckpointError
from neva.model.keys import disk_name
from neva.model.projector import probe_pixels
from neva.model.quiet import quiet_transformers
from neva.model.source import check_source, part_config, why

KINDS = ("clip", "clip_vision_model")

# OpenAI's colours, for a CLIP directory that brings no preprocessor_config.json.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Vision:
    """A CLIP vision tower, taken apart. `tensors` go by disk names."""

    model: CLIPVisionModel
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.no_grad()
    def probe_features(self, layers: Sequence[int], seed: int) -> Tensor:
        """float32 features (N, P, Dv * layers) of random smooth images, no class token."""
        pixels = probe_pixels(self.config["image_size"], self.config["num_channels"], seed)
        found = self.model.float()(pixels, output_hidden_states=True).hidden_states
        return torch.cat([found[layer][:, 1:] for layer in layers], dim=-1)


def read_vision(source: str | Path, dtype: torch.dtype) -> Vision:
    """Read a CLIP; CheckpointError for another kind of model or an unreadable source."""
    check_source(source)
    try:
        with quiet_transformers():
            kind = AutoConfig.from_pretrained(source, trust_remote_code=False).model_type
        if kind not in KINDS:
            raise CheckpointError(
                f"{source}: a {kind!r} model is not a vision tower that can be composed; give a "
                "Hugging Face CLIP (CLIPModel or CLIPVisionModel)."
            )
        with quiet_transformers():
            model, report = CLIPVisionModel.from_pretrained(
                source, dtype=dtype, output_loading_info=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{source}: cannot be read as a CLIP: {why(source, error)}"
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{source}: {len(missing)} tensors are missing, first {missing[0]}; copy it again."
        )
    mean, std = colours(source)
    state = model.state_dict().items()
    return Vision(
        model=model,
        config=part_config(model.config.to_dict()),
        tensors={disk_name(f"model.vision_tower.{name}"): tensor.clone() for name, tensor in state},
        mean=mean,
        std=std,
    )


def colours(source: str | Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation by which the CLIP's own preprocessor normalises."""
    try:
        record, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        return CLIP_MEAN, CLIP_STD
    return tuple(record.get("image_mean", CLIP_MEAN)), tuple(record.get("image_std", CLIP_STD))
