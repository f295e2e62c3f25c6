"""The CPU's attention of short documents is the packed attention, forwards and backwards."""

import pytest
import torch
from torch import Tensor, nn

from neva.model.attention import as_mask, packed_attention
from neva.train.cpu_attention import LONGEST, short_packed_attention


def random(heads: int, tokens: int) -> Tensor:
    return torch.randn(1, heads, tokens, 8).requires_grad_()


@pytest.mark.parametrize("lengths", [[1, 7, 20, 3], [5], [LONGEST + 1, 4]])
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_equal_to_the_packed_attention(lengths: list[int], shared: int) -> None:
    torch.manual_seed(0)
    query, key, value = (random(heads, sum(lengths)) for heads in (4, shared, shared))
    borders = as_mask(torch.tensor([0, *lengths]).cumsum(0))
    weight = torch.randn(1, sum(lengths), 4, 8)
    results = []
    for attention in (packed_attention, short_packed_attention):
        out, _ = attention(nn.Identity(), query, key, value, borders, scaling=0.3)
        results.append((out, *torch.autograd.grad((out * weight).sum(), (query, key, value))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
