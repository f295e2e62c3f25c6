"""What a run computes in: what the device is quick at, unless told; a resumed run as it began."""

import time

import pytest
import torch

from neva.train.precision import advice, chosen, dtype_of, quick_at_bf16, settled
from neva.train.recipe import Recipe

AUTO = Recipe()


def seconds(kind: torch.dtype) -> float:
    """The best of five products, on one thread."""
    a, b = torch.rand(512, 512).to(kind), torch.rand(512, 512).to(kind)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - start)
    return min(taken)


def test_the_clock_agrees_that_bfloat16_is_quick_or_slow() -> None:
    ratio = seconds(torch.bfloat16) / seconds(torch.float32)
    assert (ratio < 6) == quick_at_bf16("cpu"), f"bfloat16 takes {ratio:.1f} times as long"


def test_auto_takes_what_the_device_is_quick_at() -> None:
    assert AUTO.precision == "auto"
    quick = quick_at_bf16("cpu")
    assert settled(AUTO, "cpu").precision == chosen("auto", "cpu") == ("bf16" if quick else "fp32")


@pytest.mark.parametrize("told", ["bf16", "fp32"])
def test_what_was_told_stands(told: str) -> None:
    recipe = AUTO.with_values(precision=told)
    assert settled(recipe, "cpu") == recipe
    assert settled(recipe, "cpu", AUTO.with_values(precision="bf16")) == recipe


@pytest.mark.parametrize("began", ["bf16", "fp32"])
def test_a_resumed_run_keeps_what_it_began_with(began: str) -> None:
    assert settled(AUTO, "cpu", AUTO.with_values(precision=began)).precision == began


def test_the_lean_optimiser_asks_for_bfloat16() -> None:
    assert settled(AUTO.with_values(lean_optimizer=True), "cpu").precision == "bf16"


def test_the_user_is_told_where_bfloat16_is_slow() -> None:
    half, whole = (AUTO.with_values(precision=told) for told in ("bf16", "fp32"))
    if quick_at_bf16("cpu"):
        assert advice(half, half, "cpu") is None
        return
    assert "--precision fp32" in (advice(half, half, "cpu") or "")
    assert "float32" in (advice(AUTO, settled(AUTO, "cpu"), "cpu") or "")
    assert advice(whole, whole, "cpu") is None


def test_an_undecided_precision_has_no_type() -> None:
    assert dtype_of("bf16") is torch.bfloat16 and dtype_of("fp32") is torch.float32
    with pytest.raises(ValueError, match="not decided"):
        dtype_of("auto")
