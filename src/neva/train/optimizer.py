"""AdamW over float32 masters of what learns; the model itself computes in its own dtype.

The model's trainable weights stay in bfloat16, so that every activation does too. Each has a
float32 master that the optimiser updates and that is copied back after every step. Gradients leave
the model as soon as they exist and are summed in float32, so accumulating over rows loses nothing.
Autocast would do the same arithmetic but keeps the residual stream in float32 and casts the weights
on every forward.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from neva.train.recipe import Recipe


class MasterAdamW:
    """AdamW on the masters of `parameters` (name -> trainable parameter of the model).

    The model's own parameters become `dtype`; None leaves them as they are.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        recipe: Recipe,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.masters = {
            name: nn.Parameter(p.detach().to(torch.float32, copy=True))
            for name, p in self.parameters.items()
        }
        self._peaks: list[float] = []
        self._adam = torch.optim.AdamW(
            self._groups(recipe), betas=(recipe.beta1, recipe.beta2), eps=1e-8, fused=True
        )
        for name, parameter in self.parameters.items():
            parameter.data = parameter.data.to(dtype or parameter.dtype)
            collect = self._collector(self.masters[name])
            parameter.register_post_accumulate_grad_hook(collect)  # type: ignore[no-untyped-call]

    def _groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """One group per (learning rate, weight decay); vectors have no weight decay."""
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, master in self.masters.items():
            peak = recipe.learning_rate
            if "multi_modal_projector" in name and recipe.projector_learning_rate is not None:
                peak = recipe.projector_learning_rate
            decay = recipe.weight_decay if master.ndim > 1 else 0.0
            found.setdefault((peak, decay), []).append(master)
        self._peaks = [peak for peak, _ in found]
        return [
            {"params": members, "lr": peak, "weight_decay": decay}
            for (peak, decay), members in found.items()
        ]

    @staticmethod
    def _collector(master: nn.Parameter) -> Callable[[Tensor], None]:
        """A hook that moves a fresh gradient into the master's float32 sum."""

        def collect(parameter: Tensor) -> None:
            if parameter.grad is None:
                return
            if master.grad is None:
                master.grad = parameter.grad.to(torch.float32, copy=True)
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

        return collect

    def gradients(self) -> list[Tensor]:
        """The gradient of every master, zero where there is none yet; for sums over ranks."""
        for master in self.masters.values():
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        return [master.grad for master in self.masters.values() if master.grad is not None]

    def clip(self, limit: float) -> float:
        """Scale the gradients to a norm of at most `limit` (0: leave them); the norm before."""
        gradients = [m.grad for m in self.masters.values() if m.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if limit > 0 and torch.isfinite(norm):
            torch._foreach_mul_(gradients, torch.clamp(limit / (norm + 1e-6), max=1.0).item())
        return float(norm)

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
        """Copy the masters into the model."""
        torch._foreach_copy_(list(self.parameters.values()), list(self.masters.values()))

    def drop_gradients(self) -> None:
        """Forget the gradients, as after a step or instead of one."""
        for master in self.masters.values():
            master.grad = None

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name: `master.NAME`, `mean.NAME`, `square.NAME`, `step.NAME`."""
        tensors: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            tensors[f"master.{name}"] = master.detach()
            kept = self._adam.state.get(master)
            if kept:
                tensors[f"mean.{name}"] = kept["exp_avg"]
                tensors[f"square.{name}"] = kept["exp_avg_sq"]
                tensors[f"step.{name}"] = kept["step"]
        return tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`: bit for bit, also in the model. KeyError on a missing master."""
        for name, master in self.masters.items():
            master.copy_(tensors[f"master.{name}"])
            if f"mean.{name}" in tensors:
                self._adam.state[master] = {
                    "step": tensors[f"step.{name}"].clone(),
                    "exp_avg": tensors[f"mean.{name}"].clone(),
                    "exp_avg_sq": tensors[f"square.{name}"].clone(),
                }
        self.publish()

    def forget(self) -> None:
        """Free moments and gradients; the masters stay. The end of learning."""
        self._adam.state.clear()
        self.drop_gradients()
