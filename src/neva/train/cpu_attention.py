"""Attention within short documents on a CPU: plain products, whose backward is three times faster.

torch's fused attention wins on long sequences and on GPUs. On a CPU its backward is slow for the
short documents of visual instructions, and took a fifth of a training step. Cutting the row by one
`split` matters too: its backward is one concatenation, where a slice's fills a whole row of zeros.
The documents come as in `neva.model.attention`, which longer ones still use.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, LlavaForConditionalGeneration
from transformers.masking_utils import sdpa_mask

from neva.model.attention import packed_attention

SHORT_PACKED = "neva_short_packed"
LONGEST = 256  # tokens; above it the (L, L) products cost more than the fused kernel


def use_short_attention(model: LlavaForConditionalGeneration) -> None:
    """Give the language model of `model` this attention."""
    AttentionInterface.register(SHORT_PACKED, short_packed_attention)
    AttentionMaskInterface.register(SHORT_PACKED, sdpa_mask)
    model.model.language_model.set_attn_implementation(SHORT_PACKED)


def short_packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As `packed_attention`: (1, H, T, d) and (1, Hkv, T, d) -> (1, T, H, d)."""
    lengths = _lengths(attention_mask)
    longest = min(LONGEST, sliding_window or LONGEST)
    if not lengths or max(lengths) > longest or dropout:
        return packed_attention(
            module, query, key, value, attention_mask, dropout, scaling, sliding_window, **kwargs
        )
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    mask = torch.full((max(lengths),) * 2, -torch.inf, dtype=query.dtype).triu(1)
    rows = (torch.split(x, lengths, dim=2) for x in (query, key, value))
    parts = [_causal(q, k, v, mask) for q, k, v in zip(*rows, strict=True)]
    return torch.cat(parts, dim=1), None


def _causal(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """One document: (1, H, L, d), scaled, and (1, Hkv, L, d) twice -> (1, L, H, d)."""
    _, heads, length, width = query.shape
    shared = key.shape[1]
    # Heads that share a key are rows of one product, so that the key is never copied.
    grouped = query.reshape(shared, heads // shared * length, width)
    scores = torch.bmm(grouped, key[0].transpose(1, 2))
    scores = scores.view(shared, heads // shared, length, length) + mask[:length, :length]
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    out = torch.bmm(weights.view(shared, -1, length), value[0])
    return out.view(1, heads, length, width).transpose(1, 2)


def _lengths(attention_mask: Tensor | None) -> list[int]:
    """Lengths of the documents; empty where the mask is an ordinary one."""
    if attention_mask is None or attention_mask.dtype != torch.int32:
        return []
    return [stop - start for start, stop in pairwise(attention_mask.flatten().tolist())]
