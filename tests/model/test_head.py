"""The head's loss and gradients are autograd's, in torch's steps and in the C kernel's."""

import pytest
import torch

from neva.model import head
from neva.model.head import plain_entropy
from neva.train.kernels import open_kernels

DTYPES = (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_heads_gradient_is_autograds(dtype: torch.dtype, compiled: bool) -> None:
    kernels = open_kernels(dtype)
    if compiled and kernels is None:
        pytest.skip("no C compiler")
    entropy = kernels.entropy if compiled and kernels else plain_entropy
    torch.manual_seed(0)
    linear = torch.nn.Linear(24, 60, bias=False).to(dtype)
    hidden, targets = torch.randn(9, 24).to(dtype).requires_grad_(), torch.randint(0, 60, (9,))
    results = []
    for rows in (0, 9, 4):
        loss = (
            head._HeadLoss.apply(hidden, linear.weight, targets, rows, True, entropy)
            if rows
            else head._cross_entropy(linear, hidden, targets)
        )
        results.append((loss, *torch.autograd.grad(loss / 5, (hidden, linear.weight))))
    # bfloat16: one rounding of a gradient scaled before or after it
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-3}
    for found in results[1:]:
        for ours, autograds in zip(found, results[0], strict=True):
            torch.testing.assert_close(ours, autograds, **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_is_the_plain_entropy(dtype: torch.dtype) -> None:
    """Of large logits too, and of some that are no numbers."""
    kernels = open_kernels(dtype)
    if kernels is None:
        pytest.skip("no C compiler")
    logits = (torch.randn(37, 501, generator=torch.Generator().manual_seed(3)) * 30).to(dtype)
    targets = torch.randint(0, 501, (37,), generator=torch.Generator().manual_seed(4))
    for learns in (True, False):
        loss, gradient = kernels.entropy(logits.clone(), targets, learns)
        wanted, expected = plain_entropy(logits.clone(), targets, learns)
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
        assert (gradient is None) == (expected is None) == (not learns)
        if gradient is not None and expected is not None:
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    for bad in (torch.nan, torch.inf):
        logits[5, 7] = bad
        assert not kernels.entropy(logits.clone(), targets, True)[0].isfinite()
