"""Attention within documents: one packed row holds many samples, and none sees another.

Registered with transformers' public interfaces as one more implementation, PACKED. What it is given
as the mask are the documents' borders: an int32 tensor (1, 1, 1, documents + 1) on the CPU, which
transformers hands on untouched to every layer because it is four-dimensional. With any other mask
PACKED is plain SDPA, so a model that trains can also generate.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "neva_packed"


def register_packed_attention() -> str:
    """Make PACKED known to transformers; may be called again. Returns its name."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)
    return PACKED


def as_mask(cu_seqlens: Tensor) -> Tensor:
    """Borders (documents + 1,) in the form in which they travel as a mask."""
    return cu_seqlens.to("cpu", torch.int32)[None, None, None]


def packed_attention(
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
    """Causal attention in each document: (1, H, T, d) and (1, Hkv, T, d) -> (1, T, H, d)."""
    if attention_mask is None or attention_mask.dtype != torch.int32:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    borders = attention_mask.flatten().tolist()
    shared = query.shape[1] != key.shape[1]
    parts = []
    for start, stop in pairwise(borders):
        window = _window(stop - start, sliding_window, query.device)
        parts.append(
            scaled_dot_product_attention(
                query[:, :, start:stop],
                key[:, :, start:stop],
                value[:, :, start:stop],
                attn_mask=window,
                is_causal=window is None,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=shared,
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _window(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """The mask (length, length) of a causal sliding window; None where it does not bite."""
    if window is None or length <= window:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril() & ones.triu(1 - window)
