"""Projector kinds, both inside Hugging Face's projector class: linear_1, activation, linear_2.

`mlp2x_gelu` is that class as it is. `linear` is one linear map: linear_1 is the map, the activation
is the identity, and linear_2 is the identity matrix, which never learns. So every program that
loads LLaVA loads it, and its output is linear_1's to the last bit.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from neva.errors import CheckpointError
from neva.model.kinds import ACTIVATIONS, ProjectorKind

PROBES = 8


def check_kind(kind: str) -> None:
    """CheckpointError, with what exists, for an unknown kind."""
    if kind not in ACTIVATIONS:
        known = ", ".join(get_args(ProjectorKind))
        raise CheckpointError(f"There is no projector {kind!r}; choose one of: {known}.")


def fresh_projector(
    kind: ProjectorKind, features: Tensor, width: int, target: float, seed: int
) -> dict[str, Tensor]:
    """A projector to start from: names as in `LlavaMultiModalProjector`, float32.

    `features` (N, P, Dv) are some of the tower's own. The weights are drawn as torch draws them for
    nn.Linear, with `seed`; then the last map that learns is scaled so that the projected features'
    root mean square is `target`, that of the LM's word embeddings, and its bias is zero: the LM
    meets image tokens as large as its words from the first step on.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Linear(features.shape[-1], width), nn.Linear(width, width)
    with torch.no_grad():
        if kind == "linear":
            scaled, into = first, features
            second.weight.copy_(torch.eye(width))
            second.bias.zero_()
        else:
            scaled, into = second, nn.functional.gelu(first(features))
        scaled.bias.zero_()
        size = scaled(into).pow(2).mean().sqrt()
        scaled.weight.mul_(target / size.clamp_min(1e-12))
    return {
        "linear_1.weight": first.weight.detach(),
        "linear_1.bias": first.bias.detach(),
        "linear_2.weight": second.weight.detach(),
        "linear_2.bias": second.bias.detach(),
    }


def learning_parameters(projector: nn.Module, activation: str) -> dict[str, nn.Parameter]:
    """What stage 1 trains: all of it, but of a linear one (identity activation) only linear_1."""
    parameters = dict(projector.named_parameters())
    if activation == ACTIVATIONS["linear"]:
        return {name: p for name, p in parameters.items() if name.startswith("linear_1.")}
    return parameters


def probe_pixels(size: int, channels: int, seed: int) -> Tensor:
    """Normalised pixels (PROBES, channels, size, size) of smooth random colours, to measure by.

    Coarse noise, enlarged: a tower's features of such images are of the size of photographs',
    which those of white noise are not.
    """
    noise = torch.Generator().manual_seed(seed)
    coarse = torch.randn((PROBES, channels, 4, 4), generator=noise)
    return nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
