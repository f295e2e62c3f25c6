"""What the frozen CLIP makes of images: only the layers that are needed, never a gradient."""

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from neva.images import PixelRecipe
from neva.model.shapes import counted_layers


def image_features(
    model: LlavaForConditionalGeneration, images: Tensor, recipe: PixelRecipe
) -> Tensor:
    """Features before the projector, without gradient: -> (N, P, Dv * layers), the tower's dtype.

    `images` are uint8 squares (N, H, W, 3) of `recipe.square`, normalised here on the model's
    device, or pixels (N, 3, H, W) already normalised. The same numbers as
    `LlavaModel.get_image_features` gives the projector; layers above the wanted one do not run.
    """
    tower = model.model.vision_tower
    body = getattr(tower, "vision_model", tower)  # where transformers before 5.6 keeps it
    weight = body.embeddings.patch_embedding.weight
    with torch.no_grad():
        pixels = images.to(weight.device, non_blocking=True)
        if images.dtype == torch.uint8:
            pixels = normalise(pixels, recipe)
        hidden = body.pre_layrnorm(body.embeddings(pixels.to(weight.dtype)))
        depth = model.config.vision_config.num_hidden_layers
        wanted = counted_layers(model.config.vision_feature_layer, depth)
        kept = {0: hidden} if 0 in wanted else {}
        for number, layer in enumerate(body.encoder.layers[: max(wanted)], start=1):
            hidden = layer(hidden, None)
            if number in wanted:
                kept[number] = hidden
        features = torch.cat([kept[number] for number in wanted], dim=-1)
        if model.config.vision_feature_select_strategy == "default":
            features = features[:, 1:]
    return features


def normalise(squares: Tensor, recipe: PixelRecipe) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W), on the squares' device."""
    mean, std = (torch.tensor(c, device=squares.device) for c in (recipe.mean, recipe.std))
    return ((squares.float() * recipe.rescale - mean) / std).permute(0, 3, 1, 2)
