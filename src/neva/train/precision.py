"""What a run computes in: bfloat16 where the device is quick at it, else float32.

A CPU without AVX512 (or ARM's bfloat16 instructions) has no products of bfloat16: they are put
together from others, at 1.2 GFLOPS where float32 had 85 (measured on two AVX2 cores of an AMD
EPYC). Most laptops are such machines, so ``auto`` asks the device.
"""

import torch

from neva.train.recipe import Precision, Recipe


def quick_at_bf16(device: str) -> bool:
    """Whether products of bfloat16 are no slower than those of float32 on `device`.

    Of a CPU oneDNN is asked, which PyTorch multiplies with; of a GPU PyTorch itself.
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def chosen(precision: Precision, device: str) -> Precision:
    """`precision` with ``auto`` decided by the device."""
    if precision != "auto":
        return precision
    return "bf16" if quick_at_bf16(device) else "fp32"


def settled(recipe: Recipe, device: str, before: Recipe | None = None) -> Recipe:
    """The recipe with its precision decided; a resumed run keeps what it began with, `before`.

    The lean optimiser asks for bfloat16 whatever the device: it is chosen to save memory.
    """
    if recipe.precision != "auto":
        return recipe
    if before is not None:
        return recipe.with_values(precision=before.precision)
    if recipe.lean_optimizer:
        return recipe.with_values(precision="bf16")
    return recipe.with_values(precision=chosen(recipe.precision, device))


def advice(asked: Recipe, decided: Recipe, device: str) -> str | None:
    """What the user should know of the choice; None where bfloat16 is quick."""
    if quick_at_bf16(device):
        return None
    if asked.precision == "fp32":
        return None
    if decided.precision == "fp32":
        return "Computing in float32: this device is slow at bfloat16."
    return (
        "This device has no quick products of bfloat16: --precision fp32 may be tens of times "
        "faster, in twice the memory."
    )


def dtype_of(precision: Precision) -> torch.dtype:
    """The type of a decided precision."""
    if precision == "auto":
        raise ValueError("the precision is not decided yet: call `settled` first")
    return torch.bfloat16 if precision == "bf16" else torch.float32
