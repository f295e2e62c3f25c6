"""Choosing the next token, by openvino-genai's rules: penalties, temperature, top-p, top-k, draw.

The two engines draw from different random numbers, so only greedy text is equal between them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from neva.engine.logprobs import Scored
from neva.engine.protocol import Sampling


def choose(
    logits: Tensor, sampling: Sampling, generator: torch.Generator, said: Mapping[int, int]
) -> int:
    """One id from logits (V,). `generator` is the request's own, on the CPU; `said` is how often
    its answer has each token.
    """
    if said and (sampling.presence_penalty or sampling.frequency_penalty):
        logits = penalised(logits, sampling, said)
    if sampling.greedy:
        return int(logits.argmax())
    scaled = logits.float().cpu() / sampling.temperature
    probabilities, ids = torch.softmax(scaled, dim=-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities[before >= sampling.top_p] = 0  # the smallest set that reaches top_p stays
    if sampling.top_k:
        probabilities[sampling.top_k :] = 0
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


def penalised(logits: Tensor, sampling: Sampling, said: Mapping[int, int]) -> Tensor:
    """Logits (V,) less what the tokens that were said cost, as OpenAI's API defines it."""
    ids = torch.tensor(list(said), device=logits.device)
    times = torch.tensor(list(said.values()), dtype=logits.dtype, device=logits.device)
    cost = (sampling.presence_penalty or 0) + (sampling.frequency_penalty or 0) * times
    return logits.index_add(0, ids, -cost)


def scored(logits: Tensor, token: int, top: int) -> Scored:
    """The token's log probability under logits (V,), and those of the `top` likeliest."""
    scores = torch.log_softmax(logits.float(), dim=-1)
    best = torch.topk(scores, min(top, len(scores)))
    named = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Scored(token, float(scores[token]), dict(named))
