"""Choosing the next token, by the same rules as openvino-genai: temperature, then top-p, then draw.

The two engines draw from different random numbers, so only greedy text is equal between them.
"""

import torch
from torch import Tensor

from neva.engine.logprobs import Scored
from neva.engine.protocol import Sampling


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One id from logits (V,). `generator` is the request's own, on the CPU."""
    if sampling.greedy:
        return int(logits.argmax())
    scaled = logits.float().cpu() / sampling.temperature
    probabilities, ids = torch.softmax(scaled, dim=-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities[before >= sampling.top_p] = 0  # the smallest set that reaches top_p stays
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


def scored(logits: Tensor, token: int, top: int) -> Scored:
    """The token's log probability under logits (V,), and those of the `top` likeliest."""
    scores = torch.log_softmax(logits.float(), dim=-1)
    best = torch.topk(scores, min(top, len(scores)))
    named = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Scored(token, float(scores[token]), dict(named))
