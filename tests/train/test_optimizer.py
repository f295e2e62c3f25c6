"""fp32 masters: as exact as training in fp32 allows, and restored bit for bit."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neva.train.gradients import GradientSums
from neva.train.optimizer import MasterAdamW
from neva.train.recipe import Recipe


@dataclass(frozen=True)
class Kept:
    """Saved tensors in memory."""

    tensors: dict[str, Tensor]

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tensor.copy_(self.tensors[name])


def net(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 2)).to(dtype)


def backward(model: nn.Module, seed: int) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
    model(x.to(next(model.parameters()).dtype)).float().square().sum().backward()


def test_in_fp32_it_is_torch_adamw() -> None:
    ours, theirs = net(torch.float32), net(torch.float32)
    recipe = Recipe(learning_rate=1e-2, weight_decay=0.1, grad_clip=1.0, beta2=0.95)
    adam = MasterAdamW(dict(ours.named_parameters()), recipe)
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    vectors = [p for p in theirs.parameters() if p.ndim == 1]
    peer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    for step in range(5):
        for part in (0, 1):  # two rows are accumulated
            backward(ours, 2 * step + part)
            backward(theirs, 2 * step + part)
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        assert abs(adam.sums.clip(1.0) - float(norm)) < 1e-4 * float(norm)
        adam.step(1.0)
        peer.step()
        peer.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_small_updates_are_not_lost_in_bfloat16() -> None:
    """A rate below bf16's resolution moves nothing without masters, and adds up with them."""
    model = net(torch.bfloat16)
    before = model[0].weight.detach().clone()
    adam = MasterAdamW(dict(model.named_parameters()), Recipe(learning_rate=1e-4))
    for step in range(60):
        backward(model, step)
        adam.sums.clip(1.0)
        adam.step(1.0)
    assert model[0].weight.dtype == torch.bfloat16
    assert adam.masters["0.weight"].dtype == torch.float32
    moved = (model[0].weight - before).abs().float().mean()
    assert moved > 1e-3
    assert all(p.grad is None for p in model.parameters())


def test_projector_has_its_own_rate() -> None:
    names = {
        "multi_modal_projector.w": nn.Parameter(torch.ones(2, 2)),
        "lm.w": nn.Parameter(torch.ones(2, 2)),
    }
    adam = MasterAdamW(names, Recipe(learning_rate=1e-2, projector_learning_rate=1e-3))
    sum(p.sum() for p in names.values()).backward()
    adam.step(1.0)
    assert torch.allclose(1 - names["multi_modal_projector.w"], torch.tensor(1e-3), rtol=1e-3)
    assert torch.allclose(1 - names["lm.w"], torch.tensor(1e-2), rtol=1e-3)


def test_sums_come_in_the_order_of_the_parameters() -> None:
    """All ranks add them up one by one, and their backward passes may differ in order."""
    parameters = {name: nn.Parameter(torch.ones(1)) for name in ("first", "second", "third")}
    sums = GradientSums(parameters)
    for name, value in (("third", 3.0), ("first", 1.0)):
        (value * parameters[name]).sum().backward()
    assert [float(total) for total in sums.every()] == [1.0, 0.0, 3.0]


def test_state_goes_on_bit_for_bit() -> None:
    first = net(torch.bfloat16)
    adam = MasterAdamW(dict(first.named_parameters()), Recipe(learning_rate=1e-2))
    for step in range(3):
        backward(first, step)
        adam.step(1.0)
    kept = {name: tensor.clone() for name, tensor in adam.state().items()}
    second = net(torch.bfloat16)
    again = MasterAdamW(dict(second.named_parameters()), Recipe(learning_rate=1e-2))
    again.load(Kept(kept))
    for model, optimizer in ((first, adam), (second, again)):
        backward(model, 9)
        optimizer.sums.clip(1.0)
        optimizer.step(0.5)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
