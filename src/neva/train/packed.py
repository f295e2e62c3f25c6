"""Frozen linear layers on a CPU, laid out once as oneDNN multiplies them.

A product with a plain bfloat16 weight lays it out anew every time, a sixth of its time on rows of
some hundred tokens. A frozen weight never changes, so it is laid out once for x @ W.T and the plain
one is dropped, which costs no memory in CLIP. In the LM it is laid out for the gradient g @ W too,
for the size of its layers once more. The numbers are oneDNN's either way. The ops are those that
torch's own inductor puts there (torch/_inductor/fx_passes/mkldnn_fusion.py).
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

ROWS = 512  # for which the layout is chosen; it serves others as well (measured: 64 to 1024)


@dataclass(frozen=True)
class Packed:
    """A weight (out, in) in oneDNN's layouts, and its bias."""

    out_features: int
    in_features: int
    forwards: Tensor
    backwards: Tensor | None
    """None where nothing that comes in learns."""
    bias: Tensor | None = None

    @classmethod
    def of(cls, layer: nn.Linear, gradient: bool) -> "Packed":
        """Lay out a bfloat16 layer; with `gradient` also for that of its input."""
        pack, weight = torch.ops.mkldnn._reorder_linear_weight, layer.weight.detach()
        backwards = pack(weight.t().contiguous(), ROWS) if gradient else None
        bias = None if layer.bias is None else layer.bias.detach()
        return cls(layer.out_features, layer.in_features, pack(weight, ROWS), backwards, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x @ W.T + bias: (..., in) -> (..., out)."""
        return _product(x, self.forwards, self.bias)

    def inwards(self, g: Tensor, total: Tensor | None = None) -> Tensor:
        """g @ W, the gradient of x: (..., out) -> (..., in); `total` is added."""
        if self.backwards is None:
            raise RuntimeError("a layer that was packed without a gradient was asked for one")
        if total is None:
            return _product(g, self.backwards)
        added = torch.ops.mkldnn._linear_pointwise.binary(g, total, self.backwards, None, "add")
        return cast(Tensor, added)


class PackedLinear(nn.Module):
    """A frozen linear layer in the place of an `nn.Linear`. It has no parameters."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear.forward`, with a gradient for x."""
        return cast(Tensor, _Product.apply(x, self.packed))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Sizes, for print(model)."""
        return f"in_features={self.packed.in_features}, out_features={self.packed.out_features}"


def can_pack() -> bool:
    """Whether this CPU and this build of torch have such products; tried on x86 only."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    ops = torch.ops.mkldnn
    known = hasattr(ops, "_reorder_linear_weight") and hasattr(ops, "_linear_pointwise")
    return x86 and known and bool(ops._is_mkldnn_bf16_supported())


def pack_frozen(body: nn.Module, gradient: bool = True) -> int:
    """Put packed layers in the place of all frozen bfloat16 ones in `body`; how many.

    0 where they cannot be packed. `gradient`: of what comes in.
    """
    if not can_pack():
        return 0
    count = 0
    for parent, name, layer in list(_packable(body)):
        setattr(parent, name, PackedLinear(Packed.of(layer, gradient)))
        layer.weight.data = torch.empty(0)  # whoever else knows the layer keeps no memory
        count += 1
    return count


def frozen_bytes(body: nn.Module) -> int:
    """Size of the layers that `pack_frozen` would pack."""
    return sum(layer.weight.nbytes for _, _, layer in _packable(body))


def _packable(body: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Parent, name and layer of all that fit; an adapter's parts, in dicts of peft's, are thin and
    stay what `neva.train.linear` knows, also where they are held."""
    for parent in body.modules():
        if not isinstance(parent, nn.ModuleDict):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Linear) and _fits(layer):
                    yield parent, name, layer


def _fits(layer: nn.Linear) -> bool:
    """Plain, frozen, bfloat16, on the CPU."""
    weight = layer.weight
    plain = type(layer) is nn.Linear and type(weight) is nn.Parameter
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    return plain and frozen and weight.dtype == torch.bfloat16 and weight.device.type == "cpu"


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    done = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return cast(Tensor, done)


class _Product(Function):
    """`Packed.forward` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        return packed.forward(x)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.packed.inwards(g.contiguous()), None
