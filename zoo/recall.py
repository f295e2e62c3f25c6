"""CLIP's two new layers as a memory of names, between its patches and the projector.

CLIP's patches know far more names than image tokens said: of new views of the trained drawings its
head names 88 of 100, off a fitted projector's tokens 67 are read, and the LM said 34. Of tokens
that say the head's choice and nothing else the same LM said 52 at once. So the choice is made here,
as a Hopfield network makes it (Ramsauer et al. 2021):

- the first layer's attention brings together patches that show the same, by the names' own space;
- its MLP is a table (Geva et al. 2021): a unit per name, keyed by the name's vector, writes the
  name's code, large enough to drown the rest; next to it those of its neighbours, smaller;
- the second layer's norm makes this a matter of shares, and its units, keyed by the codes, keep the
  largest: they write what the projector makes words of.

Codes leave alone what else a patch is to tell, its place and how many there are of what it shows
(`zoo.leaning`), which would drown as well. All of it then learns with the projector. The second
layer's attention stays silent. At the end CLIP's last layer learns to give the embeddings that it
gave before.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from zoo.clip_model import NameHead
from zoo.deepen import MORE

AWAKE = (0.01, 0.001)
"""Share of the keyed units of each layer that are on for a patch, before anything is learnt."""
STEEP = 4.0
"""Standard deviation of a patch's keyed units: with 1 the many that are off, a little negative each
by gelu, together outshout the few that are on."""
SPREAD = 0.5
"""Standard deviation of the attention's scores at first: patches that show the same get most."""
GATHERED = 1.5
"""How much of the patches that show the same is added to a patch, as a multiple of its length."""
OWN = 0.5
"""Of a code: the name's own direction beside a random one of length 1."""
LOUD = (1.5, 2.0)
"""Length of the first and the second code, as a multiple of a patch's."""


def attended(layer: nn.Module, states: Tensor, at: Tensor) -> Tensor:
    """States ``(B, 65, Dv)`` at places ``at`` ``(B, T)``, with what a CLIP layer's attention adds:
    ``(B, T, Dv)``. Hugging Face's own computes all places."""
    attention: Any = layer.self_attn
    places = at[..., None].expand(-1, -1, states.shape[-1])
    normed = layer.layer_norm1(states)  # type: ignore[operator]
    parts = (
        attention.q_proj(normed.gather(1, places)),
        attention.k_proj(normed),
        attention.v_proj(normed),
    )
    heads = [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts]
    brought = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    out: Tensor = states.gather(1, places) + attention.out_proj(brought)
    return out


def looked_up(layer: nn.Module, patches: Tensor) -> Tensor:
    """Patches ``(..., Dv)`` with what a CLIP layer's MLP adds."""
    out: Tensor = patches + layer.mlp(layer.layer_norm2(patches))  # type: ignore[operator]
    return out


class Recaller(nn.Module):
    """Two CLIP layers and the projector: states ``(B, 65, Dv)``, the class token's first, and which
    patches ``(B, T)``, to image tokens ``(B, T, D)``."""

    def __init__(self, layers: nn.ModuleList, projector: nn.Module) -> None:
        super().__init__()
        self.first, self.second = layers
        self.projector = projector

    def remembered(self, states: Tensor, at: Tensor) -> Tensor:
        """The patches behind both layers ``(B, T, Dv)``."""
        patches = attended(self.first, states, at + 1)
        return looked_up(self.second, looked_up(self.first, patches))

    def forward(self, states: Tensor, at: Tensor) -> Tensor:
        tokens: Tensor = self.projector(self.remembered(states, at))
        return tokens


def all_patches(states: Tensor) -> Tensor:
    """Every place of pictures whose states are ``(B, 65, Dv)``: ``(B, 64)``."""
    return torch.arange(states.shape[1] - 1).expand(len(states), -1)


@torch.no_grad()
def remember(recaller: Recaller, head: NameHead, rows: list[int], states: Tensor,
             aims: Tensor, kept: Tensor) -> None:  # fmt: skip
    """Give the first units of both tables a name each, of the head's ``rows``, so that image tokens
    say ``aims`` ``(rows, D)``; ``states`` ``(N, 65, Dv)`` set scales. Nothing is written along
    ``kept`` ``(Dv, R)``, orthonormal; along its first two, which tell the place, patches that show
    the same bring nothing either."""
    first, second = recaller.first, recaller.second
    some = states[torch.randperm(len(states))[:256]].float()
    _gathering(first, head, some, kept[:, :2])
    patches = attended(first, some, all_patches(some) + 1).flatten(0, 1)
    size = patches.norm(dim=1).mean()
    keys, offs = head.vectors[rows] @ head.map.weight, head.vectors[rows] @ head.map.bias
    own = F.normalize(keys - keys.mean(0), dim=1)
    codes = F.normalize(OWN * own + F.normalize(torch.randn_like(own), dim=1), dim=1)
    codes = F.normalize(codes - codes @ kept @ kept.T, dim=1)
    _copy(head.norm, first.layer_norm2)
    _table(first, patches, keys, offs, AWAKE[0], codes * LOUD[0] * size)
    patches = looked_up(first, patches)
    free = torch.linalg.svd(kept.T)[2][kept.shape[1] :]
    basis = torch.linalg.svd(aims, full_matrices=False)[2][: len(free)]
    free = free[: len(basis)]
    known = aims @ basis.T @ free
    _copy(nn.LayerNorm(patches.shape[1]), second.layer_norm2)
    size = patches.norm(dim=1).mean()
    _table(second, patches, codes, torch.zeros(len(rows)), AWAKE[1], known * LOUD[1] * size)
    pass_on(recaller.projector, free, basis, looked_up(second, patches).std())


def _copy(one: nn.LayerNorm, other: Any) -> None:
    other.load_state_dict(one.state_dict())


def _gathering(layer: nn.Module, head: NameHead, some: Tensor, place: Tensor) -> None:
    """Queries and keys in the names' own space; what is brought is the normed patch itself, but for
    its parts along ``place`` ``(Dv, 2)``."""
    _copy(head.norm, layer.layer_norm1)
    attention: Any = layer.self_attn
    normed = head.norm(some)
    _, strength, turned = torch.linalg.svd(head.map.weight, full_matrices=False)
    directions = strength[:, None] * turned
    seen = (normed - normed.mean((0, 1))) @ directions.T
    spread = (seen[:, 1:] @ seen[:, 1:].transpose(1, 2)).std()
    heads: int = attention.num_heads
    scale = (SPREAD * heads * (len(directions) / heads) ** 0.5 / spread).sqrt()
    middle = directions @ normed.mean((0, 1))
    # every third direction to a head, so that each sees strong ones and weak ones
    dealt = torch.arange(len(directions)).view(-1, heads).T.flatten()
    for part in (attention.q_proj, attention.k_proj):
        part.weight.copy_((directions * scale)[dealt])
        part.bias.copy_(-(middle * scale)[dealt])
    attention.v_proj.weight.copy_(torch.diag(1 / head.norm.weight))
    attention.v_proj.bias.copy_(-head.norm.bias / head.norm.weight)
    size = some[:, 1:].std(-1).mean()
    brought = torch.eye(len(directions)) - place @ place.T
    attention.out_proj.weight.copy_(brought * GATHERED * size)
    attention.out_proj.bias.zero_()


def _table(layer: nn.Module, patches: Tensor, keys: Tensor, offs: Tensor, awake: float,
           codes: Tensor) -> None:  # fmt: skip
    """The first units of an MLP answer to ``keys`` ``(K, Dv)``, ``awake`` of them for ``patches``;
    each writes its code ``(K, Dv)`` when it is on as far as the best one of a patch usually is."""
    table: Any = layer.mlp
    seen = layer.layer_norm2(patches)  # type: ignore[operator]
    found = seen @ keys.T + offs
    scale = STEEP / found.std(1).mean()
    threshold = torch.quantile(found[:512] * scale, 1 - awake, dim=1).mean()
    table.fc1.reset_parameters()
    table.fc1.weight[: len(keys)] = keys * scale
    table.fc1.bias[: len(keys)] = offs * scale - threshold
    best = F.gelu(table.fc1(seen)[:, : len(keys)]).amax(1).mean()
    table.fc2.weight[:, : len(keys)] = codes.T / best


@torch.no_grad()
def pass_on(projector: nn.Module, free: Tensor, basis: Tensor, scale: Tensor) -> None:
    """A projector that says ``basis`` ``(R, D)`` of a patch's parts along ``free`` ``(R, Dv)``:
    gelu(x) - gelu(-x) is x. What is left of its hidden units starts at random and small."""
    one: nn.Linear = projector.linear_1  # type: ignore[assignment]
    two: nn.Linear = projector.linear_2  # type: ignore[assignment]
    rank = len(basis)
    for part in (one, two):
        part.reset_parameters()
    one.weight.div_(scale)
    one.bias[: 2 * rank] = 0.0
    two.weight.mul_(0.1)
    one.weight[:rank], one.weight[rank : 2 * rank] = free / scale, -free / scale
    two.weight[:, :rank], two.weight[:, rank : 2 * rank] = basis.T, -basis.T


@torch.no_grad()
def keep_embedding(old: CLIPModel, new: CLIPModel, states: Tensor, steps: int = 4000,
                   batch: int = 512, rate: float = 2e-3) -> float:  # fmt: skip
    """Teach ``new``'s last layer ``old``'s embeddings; returns their mean cosine at the end.

    ``states`` ``(N, 65, Dv)`` are those before the new layers, which both have alike. A last layer
    is asked for the class token alone, so a step is small.
    """
    inner, aims = [], []
    for part in torch.split(states, batch):
        inner.append(part.float())
        aims.append(embedding(old, _last(old), part.float()))
        for layer in new.vision_model.encoder.layers[-MORE - 1 : -1]:
            inner[-1] = layer(inner[-1], None)
    seen, aim, last = torch.cat(inner), torch.cat(aims), _last(new)
    learnt = list(last.parameters())
    optimiser = torch.optim.AdamW(learnt, rate, weight_decay=0.0)
    cosine = 0.0
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        rows = torch.randint(len(seen), (batch,))
        with torch.enable_grad():
            near = (embedding(new, last, seen[rows]) * aim[rows]).sum(1).mean()
            optimiser.zero_grad()
            (1 - near).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cosine = near.item() if step == 0 else 0.9 * cosine + 0.1 * near.item()
    return cosine


def _last(clip: CLIPModel) -> nn.Module:
    layer: nn.Module = clip.vision_model.encoder.layers[-1]
    return layer


def embedding(clip: CLIPModel, last: nn.Module, states: Tensor) -> Tensor:
    """States ``(B, 65, Dv)`` before the last layer -> the image's embedding ``(B, E)``."""
    first = torch.zeros(len(states), 1, dtype=torch.long)
    made = looked_up(last, attended(last, states, first))[:, 0]
    pooled = clip.vision_model.post_layernorm(made)
    return F.normalize(clip.visual_projection(pooled).float(), dim=-1)
