"""AdamW over float32 masters of what learns; the model itself computes in its own dtype.

The model's trainable weights stay in bfloat16, so that every activation does too. Each has a
float32 master that the optimiser updates and that is copied back after every step. Autocast would
do the same arithmetic but keeps the residual stream in float32 and casts the weights on every
forward.

Where a model is divided over processes, each updates its own pieces: AdamW knows no neighbours.
Under FSDP the sharded weights are float32 already and are the masters themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from neva.train.gradients import GradientSums
from neva.train.recipe import Recipe
from neva.train.sharding import like, local, piece_of, whole_tensor

EPSILON = 1e-8


class Source(Protocol):
    """Saved tensors, such as `neva.train.state.Saved`."""

    def names(self) -> Collection[str]:
        """Of all that is saved."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Read `tensors` in place, each by its name; pieces of what is divided. KeyError."""


class Optimizer(ABC):
    """Updates `parameters` (name -> trainable parameter of the model) by the `sums` of their
    gradients; the model's own become `dtype`, None leaves them as they are."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        dtype: torch.dtype | None = None,
        sharded: bool = False,
    ) -> None:
        self.parameters, self.sharded = dict(parameters), sharded
        for parameter in self.parameters.values() if not sharded else ():
            parameter.data = parameter.data.to(dtype or parameter.dtype)
        self.sums = GradientSums(self.parameters, sharded)

    @abstractmethod
    def step(self, share: float) -> None:
        """Update with `share` of the peak rates, give the model its new weights, drop the sums."""

    @abstractmethod
    def begin(self, name: str, full: Tensor) -> None:
        """Set a master, and the model's weight, to the whole float32 tensor `full`."""

    @abstractmethod
    def whole(self, keep: bool = True) -> Mapping[str, Tensor]:
        """The float32 masters by name, each put together of its pieces; all ranks must ask.

        What was divided comes to the CPU, and only to a rank that is to `keep` it.
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint needs, by name, in the optimiser's own memory.

        What is divided is given as this rank's piece of it.
        """

    @abstractmethod
    def load(self, saved: Source) -> None:
        """The inverse of `state`: bit for bit, also in the model. KeyError on a missing master."""

    @abstractmethod
    def forget(self) -> None:
        """Free moments and gradients; the masters stay. The end of learning."""


def peak_and_decay(name: str, parameter: Tensor, recipe: Recipe) -> tuple[float, float]:
    """A parameter's peak learning rate and weight decay; vectors have none."""
    peak = recipe.learning_rate
    if "multi_modal_projector" in name and recipe.projector_learning_rate is not None:
        peak = recipe.projector_learning_rate
    return peak, recipe.weight_decay if parameter.ndim > 1 else 0.0


class MasterAdamW(Optimizer):
    """torch's fused AdamW on float32 masters.

    `sharded`: the parameters are FSDP's, which gathers them in its own dtype.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        recipe: Recipe,
        dtype: torch.dtype | None = None,
        sharded: bool = False,
    ) -> None:
        self.masters = {
            name: nn.Parameter(local(p).to(torch.float32, copy=not sharded))
            for name, p in parameters.items()
        }
        super().__init__(parameters, dtype, sharded)
        self._peaks: list[float] = []
        self._adam = torch.optim.AdamW(
            self._groups(recipe), betas=(recipe.beta1, recipe.beta2), eps=EPSILON, fused=True
        )

    def _groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """One group per (learning rate, weight decay)."""
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, master in self.masters.items():
            rates = peak_and_decay(name, self.parameters[name], recipe)
            found.setdefault(rates, []).append(master)
        self._peaks = [peak for peak, _ in found]
        return [
            {"params": members, "lr": peak, "weight_decay": decay}
            for (peak, decay), members in found.items()
        ]

    @torch.no_grad()
    def begin(self, name: str, full: Tensor) -> None:
        master, parameter = self.masters[name], self.parameters[name]
        master.copy_(piece_of(full, parameter))
        if not self.sharded:
            local(parameter).copy_(master)

    @torch.no_grad()
    def step(self, share: float) -> None:
        for group, peak in zip(self._adam.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        for name, master in self.masters.items():
            master.grad = self.sums.total.get(name)
        self._adam.step()
        for master in self.masters.values():
            master.grad = None
        self.sums.drop()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model, where they are not its own weights."""
        if not self.sharded:
            own = [local(parameter) for parameter in self.parameters.values()]
            torch._foreach_copy_(own, list(self.masters.values()))

    def whole(self, keep: bool = True) -> dict[str, Tensor]:
        divided = any(isinstance(parameter, DTensor) for parameter in self.parameters.values())
        found: dict[str, Tensor] = {}
        for name, master in self.masters.items():  # one of them at a time is whole on a device
            tensor = whole_tensor(like(master.detach(), self.parameters[name]))
            if keep:
                found[name] = tensor.cpu() if divided else tensor
        return found

    def state(self) -> dict[str, Tensor]:
        """`master.NAME`, `mean.NAME`, `square.NAME`, `step.NAME`."""
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
    def load(self, saved: Source) -> None:
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
        self._adam.state.clear()
        self.sums.drop()
