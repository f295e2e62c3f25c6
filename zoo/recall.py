"""CLIP's new layer as a memory of names, between its patches and the projector.

CLIP's patches know more names than the projector can say: 576 units are few for 2,359 names. An MLP
is a table of keys and values (Geva et al. 2021), so the new layer's (`zoo.deepen`) gets the names'
vectors as keys: a unit is on where a patch shows its name. Its values start at zero, so that image
tokens start where `zoo.words` left them, and learn with the projector. Its attention stays silent,
so that a patch costs nothing but its own MLP. Then CLIP's last layer learns to give the embeddings
that it gave before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from zoo.clip_model import NameHead

AWAKE = 0.01
"""Share of the keyed units that are on for a patch, before anything is learnt."""


class Recaller(nn.Module):
    """A CLIP layer's MLP and the projector: features ``(..., Dv)`` to image tokens ``(..., D)``."""

    def __init__(self, layer: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.norm: nn.LayerNorm = layer.layer_norm2  # type: ignore[assignment]
        self.mlp: nn.Module = layer.mlp  # type: ignore[assignment]
        self.projector = projector
        self.linear_2 = projector.linear_2

    def forward(self, features: Tensor) -> Tensor:
        tokens: Tensor = self.projector(features + self.mlp(self.norm(features)))
        return tokens


@torch.no_grad()
def remember(recaller: Recaller, head: NameHead, rows: list[int], features: Tensor) -> None:
    """Give the first units a name each; some ``features`` ``(N, 36, Dv)`` set the scale."""
    some = features[torch.randperm(len(features))[:256]].float().flatten(0, 1)
    recaller.norm.load_state_dict(head.norm.state_dict())
    keys, offs = head.vectors[rows] @ head.map.weight, head.vectors[rows] @ head.map.bias
    seen = recaller.norm(some) @ keys.T + offs
    scale = 1 / seen.std(1).mean()
    threshold = torch.quantile(seen[:512] * scale, 1 - AWAKE, dim=1).mean()
    first: nn.Linear = recaller.mlp.fc1  # type: ignore[assignment]
    first.reset_parameters()
    first.weight[: len(rows)] = keys * scale
    first.bias[: len(rows)] = offs * scale - threshold


def embedding(clip: CLIPModel, layers: nn.ModuleList, states: Tensor) -> Tensor:
    """States ``(B, 37, Dv)`` -> what ``layers`` and the heads above make of them ``(B, E)``."""
    for layer in layers:
        states = layer(states, None)
    pooled = clip.vision_model.post_layernorm(states[:, 0])
    return F.normalize(clip.visual_projection(pooled).float(), dim=-1)


def keep_embedding(old: CLIPModel, new: CLIPModel, states: Tensor, steps: int = 400,
                   batch: int = 128, rate: float = 1e-3) -> float:  # fmt: skip
    """Teach ``new``'s last layer ``old``'s embeddings; returns their mean cosine at the end.

    ``states`` ``(N, 37, Dv)`` are those before the new layer, which both have alike.
    """
    before, after = old.vision_model.encoder.layers[-2:], new.vision_model.encoder.layers[-2:]
    optimiser = torch.optim.AdamW(after[-1].parameters(), rate, weight_decay=0.0)
    cosine = 0.0
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        some = states[torch.randint(len(states), (batch,))].float()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                aim, inner = embedding(old, before, some), after[0](some, None)
            made = embedding(new, after[1:], inner)
        near = (made * aim).sum(1).mean()
        optimiser.zero_grad()
        (1 - near).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cosine = near.item() if step == 0 else 0.9 * cosine + 0.1 * near.item()
    return cosine
