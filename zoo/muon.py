"""Muon for the matrices inside the encoders (Jordan et al. 2024).

The update is the momentum orthogonalised by five Newton-Schulz steps, scaled to AdamW's usual
root mean square, 0.2 * sqrt(max(rows, columns)) (Liu et al. 2025, "Muon is scalable").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from zoo.share import quick_type


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """``(rows, columns)`` -> the nearest matrix with singular values near one.

    One by one and in bf16 where the CPU is quick at it: half the time of a batched product.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(quick_type()).contiguous()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; every parameter is a matrix."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 2e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        buffer = state["momentum"].lerp_(grad, 1 - group["momentum"])
        update = orthogonalise(grad.lerp(buffer, group["momentum"]))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)
