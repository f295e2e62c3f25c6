"""A linear layer's products, forwards and backwards, as `neva.train.fused` takes them.

Plain, packed for a CPU, and with an adapter, which is two thin products beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neva.train.packed import Packed, PackedLinear


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight (out, in) and, with an adapter, down (r, in) and up (out, r).

    The weight is a tensor, or laid out by `neva.train.packed`.
    """

    weight: Tensor | Packed
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 0.0

    @property
    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What autograd has to know of it."""
        return None if isinstance(self.weight, Packed) else self.weight, self.down, self.up

    @property
    def width(self) -> int:
        """Numbers that come out."""
        weight = self.weight
        return weight.out_features if isinstance(weight, Packed) else weight.shape[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(T, in) -> (T, out), and the adapter's inner (T, r)."""
        weight = self.weight
        y = weight.forward(x) if isinstance(weight, Packed) else x @ weight.t()
        if self.down is None or self.up is None:
            return y, None
        inner = x @ self.down.t()
        return y.addmm_(inner, self.up.t(), alpha=self.scale), inner

    def inwards(self, g: Tensor, total: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The gradient of x (T, in), added to `total`, and the adapter's inner gradient (T, r)."""
        if isinstance(self.weight, Packed):
            dx = self.weight.inwards(g, total)
        else:
            dx = g @ self.weight if total is None else total.addmm_(g, self.weight)
        if self.down is None or self.up is None:
            return dx, None
        inner = (g @ self.up).mul_(self.scale)
        return dx.addmm_(inner, self.down), inner

    def weights(
        self,
        g: Tensor,
        x: Tensor,
        inner: Tensor | None,
        dinner: Tensor | None,
        needs: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of weight, down and up that are needed."""
        return [
            g.t() @ x if needs[0] else None,
            dinner.t() @ x if needs[1] and dinner is not None else None,
            (g.t() @ inner).mul_(self.scale) if needs[2] and inner is not None else None,
        ]


def plain_linear(module: Any) -> Linear | None:
    """A plain linear layer, alone or under one plain adapter of peft's; None for any other."""
    weight = _weight(module)
    if weight is not None:
        return Linear(weight)
    active = tuple(getattr(module, "active_adapters", ()))
    weight = _weight(getattr(module, "base_layer", None))
    if weight is None or len(active) != 1:
        return None
    name = active[0]
    plain = (
        type(module).__name__ == "Linear"
        and name in getattr(module, "lora_A", {})
        and not (module.merged or module.disable_adapters or module.lora_variant)
        and not module.fan_in_fan_out
        and type(module.lora_dropout[name]) is nn.Identity
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
    )
    if not plain:
        return None
    down, up = module.lora_A[name].weight, module.lora_B[name].weight
    return Linear(weight, down, up, float(module.scaling[name]))


def _weight(module: Any) -> Tensor | Packed | None:
    """Of a plain linear layer without a bias, packed or not; None for any other."""
    if type(module) is PackedLinear:
        return module.packed if module.packed.bias is None else None
    plain = type(module) is nn.Linear and module.bias is None
    return module.weight if plain else None
