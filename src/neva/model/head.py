"""The LM's head and its cross-entropy: logits of some supervised tokens at a time, and no others.

The gradient is computed with the loss, so that no logits wait for the backward pass and none are
computed twice.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint as recompute

CHUNK = 256  # supervised positions whose logits are in memory at once
CUDA_CHUNK = 1024

Entropy = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor | None]]
"""(logits (S, V), targets (S,), learns) -> the summed loss in float32 and, where something learns,
its gradient in the logits' dtype. May write over the logits."""


def head_loss(head: nn.Module, hidden: Tensor, targets: Tensor, entropy: Entropy) -> Tensor:
    """(S, D), (S,) -> the summed cross-entropy of the head's logits."""
    if len(targets) == 0:
        return hidden.float().sum()  # of no rows: zero, with a gradient
    rows = CUDA_CHUNK if hidden.is_cuda else CHUNK
    if type(head) is nn.Linear and head.bias is None and _plain(head.weight):
        given = (hidden, head.weight, targets, rows, torch.is_grad_enabled(), entropy)
        return cast(Tensor, _HeadLoss.apply(*given))  # type: ignore[no-untyped-call]
    losses = [
        recompute(_cross_entropy, head, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.stack(losses).sum()


def plain_entropy(logits: Tensor, targets: Tensor, learns: bool) -> tuple[Tensor, Tensor | None]:
    """`Entropy` in torch's own steps."""
    dtype, logits, wanted = logits.dtype, logits.float(), targets[:, None]
    every = logits.logsumexp(1, keepdim=True)
    loss = (every - logits.gather(1, wanted)).sum()
    if not learns:
        return loss, None
    shares = logits.sub_(every).exp_()  # softmax, and from here on its gradient
    shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0))
    return loss, shares.to(dtype)


def _plain(weight: Tensor) -> bool:
    """False for DTensors and quantised weights, which only their own modules know how to use."""
    return type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()


def _cross_entropy(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = cast(Tensor, head(hidden)).float()
    return cross_entropy(logits, targets, reduction="sum")


class _HeadLoss(Function):
    """The summed cross-entropy of hidden (S, D) @ weight (V, D) transposed, at targets (S,)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        rows: int,
        learns: bool,
        entropy: Entropy,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        dhidden = torch.empty_like(hidden) if learns and ctx.needs_input_grad[0] else None
        dweight = torch.zeros_like(weight) if learns and ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            loss, given = entropy(
                hidden[part] @ weight.t(),
                targets[part],
                dhidden is not None or dweight is not None,
            )
            total += loss
            if dhidden is not None and given is not None:
                dhidden[part] = given @ weight
            if dweight is not None and given is not None:
                dweight.addmm_(given.t(), hidden[part])
        ctx.save_for_backward(dhidden, dweight)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        dhidden, dweight = ctx.saved_tensors
        # In place: another copy would stand beside all activations.
        scaled = (None if part is None else part.mul_(g) for part in (dhidden, dweight))
        return (*scaled, None, None, None, None)
