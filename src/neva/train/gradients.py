"""float32 sums of gradients, outside the model.

Gradients leave the model as soon as they exist and are summed in float32, so accumulating over rows
loses nothing. Where a model is divided over processes, only the norm of the gradient is asked of
all. FSDP sums its own, which are taken over when they are asked for.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, all_reduce

from neva.train.sharding import division, local


class GradientSums:
    """The sums of `parameters` (name -> trainable parameter of the model) by name, in `total`.

    `sharded`: they are FSDP's, which sums their gradients itself.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], sharded: bool = False) -> None:
        self.parameters = parameters
        self.total: dict[str, Tensor] = {}
        room = {} if sharded else _room(parameters)
        for name, parameter in parameters.items() if not sharded else ():
            collect = _collector(self.total, name, room.get(name))
            parameter.register_post_accumulate_grad_hook(collect)  # type: ignore[no-untyped-call]

    def every(self) -> list[Tensor]:
        """The sum of every parameter, zero where there is none yet; for sums over ranks.

        In the parameters' order, which all ranks have: that of the backward passes is another where
        one has pictures and another has none.
        """
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:  # FSDP's sum over all rows and ranks, in float32
                self.total[name], parameter.grad = local(parameter.grad), None
            elif name not in self.total:
                self.total[name] = torch.zeros_like(local(parameter), dtype=torch.float32)
        return [self.total[name] for name in self.parameters]

    def clip(self, limit: float) -> float:
        """Scale the sums to a norm of at most `limit` (0: leave them); the norm before."""
        norm = self._norm()
        if limit > 0 and torch.isfinite(norm):
            share = torch.clamp(limit / (norm + 1e-6), max=1.0).item()
            torch._foreach_mul_(list(self.total.values()), share)
        return float(norm)

    def _norm(self) -> Tensor:
        """Of the whole gradient, also where processes hold pieces of it."""
        pieces: dict[tuple[ProcessGroup, ...], list[Tensor]] = {}
        for name, parameter in self.parameters.items():
            if name in self.total:
                pieces.setdefault(tuple(division(parameter)), []).append(self.total[name])
        norms = []
        for groups, gradients in pieces.items():
            norm = torch.nn.utils.get_total_norm(gradients)
            for group in groups:
                square = norm.square()
                all_reduce(square, group=group)
                norm = square.sqrt()
            norms.append(norm)
        return norms[0] if len(norms) == 1 else torch.nn.utils.get_total_norm(norms)

    def drop(self) -> None:
        """Forget all, as after a step or instead of one."""
        self.total.clear()
        for parameter in self.parameters.values():
            parameter.grad = None


def _collector(
    total: dict[str, Tensor], name: str, room: Tensor | None
) -> Callable[[Tensor], None]:
    """A hook that moves a fresh gradient into its float32 sum, which lies in `room` if given."""

    def collect(parameter: Tensor) -> None:
        if parameter.grad is None:
            return
        fresh = local(parameter.grad)
        if name in total:
            total[name].add_(fresh)
        else:
            place = torch.empty_like(fresh, dtype=torch.float32) if room is None else room
            total[name] = place.copy_(fresh)
        parameter.grad = None

    return collect


def _room(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """On a CPU a place for every gradient, in one block that stays from step to step.

    Freed and taken anew they would stand between activations, and the heap would grow by holes.
    """
    own = {name: local(parameter) for name, parameter in parameters.items()}
    if any(tensor.device.type != "cpu" for tensor in own.values()):
        return {}
    sizes = [tensor.numel() for tensor in own.values()]
    parts = torch.split(torch.empty(sum(sizes), dtype=torch.float32), sizes)
    return {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(own.items(), parts, strict=True)
    }
