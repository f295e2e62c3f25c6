"""CLIP and the projector of a LLaVA 1.5 checkpoint: pixels -> what replaces image tokens.

Hugging Face's own modules compute, so the numbers are those of `LlavaModel.get_image_features`.
TensorRT-LLM has a CLIP of its own, which its LLaVA-NeXT avoids on an A100 for its accuracy; here
the tower is small beside the language model, and every GPU gets the same numbers.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

VISION = "vision_tower.vision_model."
PROJECTOR = "multi_modal_projector."


class ImageEncoder(nn.Module):
    """CLIP up to the highest layer that is read, then the projector."""

    def __init__(self, config: Any) -> None:
        """`config` is the checkpoint's LlavaConfig; the weights are whatever torch begins with."""
        super().__init__()
        vision = copy.deepcopy(config.vision_config)
        self.layers = counted_layers(config.vision_feature_layer, vision.num_hidden_layers)
        vision.num_hidden_layers = max(self.layers)
        self.drops_class = config.vision_feature_select_strategy == "default"
        self.tower = CLIPVisionModel(vision)
        self.projector = LlavaMultiModalProjector(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, H, W) of any float dtype -> (N, P, D) in the weights' dtype."""
        weight = next(self.projector.parameters())
        states = self.tower(pixels.to(weight), output_hidden_states=True).hidden_states
        features = torch.cat([states[layer] for layer in self.layers], dim=-1)
        projected: Tensor = self.projector(features[:, 1:] if self.drops_class else features)
        return projected


def counted_layers(wanted: int | Sequence[int], depth: int) -> list[int]:
    """One layer or several of a tower of `depth`, negative ones from its end, all from 0."""
    layers = [wanted] if isinstance(wanted, int) else wanted
    return [layer + depth + 1 if layer < 0 else layer for layer in layers]


def load_encoder(
    config: Any, weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> ImageEncoder:
    """The encoder of a checkpoint: its LlavaConfig and its tensors, by their names on disk.

    ValueError for a tensor that is not there; those of other parts may be, and are not looked at.
    """
    encoder = ImageEncoder(config)
    # transformers 4.57 keeps CLIP's layers one level deeper than 5.6 and later ones do.
    _fill(getattr(encoder.tower, "vision_model", encoder.tower), part(weights, VISION), VISION)
    _fill(encoder.projector, part(weights, PROJECTOR), PROJECTOR)
    return encoder.to(device=device, dtype=dtype).eval().requires_grad_(False)


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    begin = len(prefix)
    return {name[begin:]: whole for name, whole in weights.items() if name.startswith(prefix)}


def served_dtype(config: Any) -> torch.dtype:
    """The dtype to serve a checkpoint in: its own, bfloat16 for float32 (half-width kernels)."""
    text = config.text_config
    said = getattr(text, "dtype", None) or getattr(config, "dtype", None) or torch.bfloat16
    found = getattr(torch, said) if isinstance(said, str) else said
    return torch.bfloat16 if found == torch.float32 else found


def _fill(module: nn.Module, found: Mapping[str, Tensor], prefix: str) -> None:
    """Load what a module has, and leave out what it has not: layers that nobody reads."""
    names = list(module.state_dict())
    lost = [name for name in names if name not in found]
    if lost:
        raise ValueError(f"The checkpoint has no {prefix + lost[0]}; export it again.")
    module.load_state_dict({name: found[name][:] for name in names}, strict=True)
