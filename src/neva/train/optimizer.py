"""AdamW over float32 masters of what learns; the model itself computes in its own dtype.

The model's trainable weights stay in bfloat16, so that every activation does too. Each has a
float32 master that the optimiser updates and that is copied back after every step. Gradients leave
the model as soon as they exist and are summed in float32, so accumulating over rows loses nothing.
Autocast would do the same arithmetic but keeps the residual stream in float32 and casts the weights
on every forward.

Where a model is divided over processes, each updates its own pieces: AdamW knows no neighbours, and
only the norm of the gradient is asked of all. Under FSDP the sharded weights are float32 already
and are the masters themselves.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, all_reduce

from neva.train.recipe import Recipe
from neva.train.sharding import division, like, local, whole_tensor


class Source(Protocol):
    """Saved tensors, such as `neva.train.state.Saved`."""

    def names(self) -> Collection[str]:
        """Of all that is saved."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Read `tensors` in place, each by its name; pieces of what is divided. KeyError."""


class MasterAdamW:
    """AdamW on the masters of `parameters` (name -> trainable parameter of the model).

    The model's own parameters become `dtype`; None leaves them as they are. `sharded`: they are
    FSDP's, which gathers them in its own dtype and sums their gradients.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        recipe: Recipe,
        dtype: torch.dtype | None = None,
        sharded: bool = False,
    ) -> None:
        self.parameters, self.sharded = dict(parameters), sharded
        self.masters = {
            name: nn.Parameter(local(p).to(torch.float32, copy=not sharded))
            for name, p in self.parameters.items()
        }
        self._peaks: list[float] = []
        self._adam = torch.optim.AdamW(
            self._groups(recipe), betas=(recipe.beta1, recipe.beta2), eps=1e-8, fused=True
        )
        room = _room(self.masters) if not sharded else {}
        for name, parameter in self.parameters.items() if not sharded else ():
            parameter.data = parameter.data.to(dtype or parameter.dtype)
            collect = self._collector(self.masters[name], room.get(name))
            parameter.register_post_accumulate_grad_hook(collect)  # type: ignore[no-untyped-call]

    def _groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """One group per (learning rate, weight decay); vectors have no weight decay."""
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, master in self.masters.items():
            peak = recipe.learning_rate
            if "multi_modal_projector" in name and recipe.projector_learning_rate is not None:
                peak = recipe.projector_learning_rate
            decay = recipe.weight_decay if self.parameters[name].ndim > 1 else 0.0
            found.setdefault((peak, decay), []).append(master)
        self._peaks = [peak for peak, _ in found]
        return [
            {"params": members, "lr": peak, "weight_decay": decay}
            for (peak, decay), members in found.items()
        ]

    @staticmethod
    def _collector(master: nn.Parameter, room: Tensor | None) -> Callable[[Tensor], None]:
        """A hook that moves a fresh gradient into the master's float32 sum, in `room` if given."""

        def collect(parameter: Tensor) -> None:
            if parameter.grad is None:
                return
            fresh = local(parameter.grad)
            if master.grad is None and room is not None:
                master.grad = room.copy_(fresh)
            elif master.grad is None:
                master.grad = fresh.to(torch.float32, copy=True)
            else:
                master.grad.add_(fresh)
            parameter.grad = None

        return collect

    def gradients(self) -> list[Tensor]:
        """The gradient of every master, zero where there is none yet; for sums over ranks."""
        for name, master in self.masters.items():
            found = self.parameters[name].grad
            if found is not None:  # FSDP's sum over all rows and ranks, in float32
                master.grad, self.parameters[name].grad = local(found), None
            elif master.grad is None:
                master.grad = torch.zeros_like(master)
        return [master.grad for master in self.masters.values() if master.grad is not None]

    def clip(self, limit: float) -> float:
        """Scale the gradients to a norm of at most `limit` (0: leave them); the norm before."""
        gradients = [m.grad for m in self.masters.values() if m.grad is not None]
        norm = self._norm()
        if limit > 0 and torch.isfinite(norm):
            torch._foreach_mul_(gradients, torch.clamp(limit / (norm + 1e-6), max=1.0).item())
        return float(norm)

    def _norm(self) -> Tensor:
        """Of the whole gradient, also where processes hold pieces of it."""
        pieces: dict[tuple[ProcessGroup, ...], list[Tensor]] = {}
        for name, master in self.masters.items():
            if master.grad is not None:
                groups = tuple(division(self.parameters[name]))
                pieces.setdefault(groups, []).append(master.grad)
        norms = []
        for groups, gradients in pieces.items():
            norm = torch.nn.utils.get_total_norm(gradients)
            for group in groups:
                square = norm.square()
                all_reduce(square, group=group)
                norm = square.sqrt()
            norms.append(norm)
        return norms[0] if len(norms) == 1 else torch.nn.utils.get_total_norm(norms)

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update with `share` of the peak rates, and give the model its new weights."""
        for group, peak in zip(self._adam.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        self._adam.step()
        self.drop_gradients()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model, where they are not its own weights."""
        if not self.sharded:
            own = [local(parameter) for parameter in self.parameters.values()]
            torch._foreach_copy_(own, list(self.masters.values()))

    def drop_gradients(self) -> None:
        """Forget the gradients, as after a step or instead of one."""
        for name, master in self.masters.items():
            master.grad = self.parameters[name].grad = None

    def whole(self) -> dict[str, Tensor]:
        """The float32 masters by name, each put together of its pieces; all ranks must ask."""
        return {
            name: whole_tensor(like(master.detach(), self.parameters[name]))
            for name, master in self.masters.items()
        }

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name: `master.NAME`, `mean.NAME`, `square.NAME`, `step.NAME`.

        They share the optimiser's memory. What is divided is given as this rank's piece of it.
        """
        tensors: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            parameter = self.parameters[name]
            tensors[f"master.{name}"] = like(master.detach(), parameter)
            kept = self._adam.state.get(master)
            if kept:
                tensors[f"mean.{name}"] = like(kept["exp_avg"], parameter)
                tensors[f"square.{name}"] = like(kept["exp_avg_sq"], parameter)
                tensors[f"step.{name}"] = kept["step"]
        return tensors

    @torch.no_grad()
    def load(self, saved: "Source") -> None:
        """The inverse of `state`: bit for bit, also in the model. KeyError on a missing master."""
        names = saved.names()
        for name, master in self.masters.items():
            if f"mean.{name}" in names:
                self._adam.state[master] = {
                    "step": torch.zeros((), device=master.device),
                    "exp_avg": torch.zeros_like(master),
                    "exp_avg_sq": torch.zeros_like(master),
                }
        saved.fill(self.state())
        self.publish()

    def forget(self) -> None:
        """Free moments and gradients; the masters stay. The end of learning."""
        self._adam.state.clear()
        self.drop_gradients()


def _room(masters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """On a CPU a place for every gradient, in one block that stays from step to step.

    Freed and taken anew they would stand between activations, and the heap would grow by holes.
    """
    if any(master.device.type != "cpu" for master in masters.values()):
        return {}
    sizes = [master.numel() for master in masters.values()]
    parts = torch.split(torch.empty(sum(sizes), dtype=torch.float32), sizes)
    return {
        name: part.view(master.shape)
        for (name, master), part in zip(masters.items(), parts, strict=True)
    }
