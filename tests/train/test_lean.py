"""The lean optimiser: masters bit for bit, moments without a bias, AdamW within bfloat16."""

import pytest
import torch
from test_optimizer import Kept, backward, net
from torch import Tensor, nn

from neva.train.lean import LeanAdamW, cut, join, round_by_chance
from neva.train.optimizer import MasterAdamW, Optimizer
from neva.train.recipe import Recipe


def test_weight_and_rest_are_the_master() -> None:
    bits = torch.randint(-(2**31), 2**31 - 2**16, (200_000,), dtype=torch.int32)
    master = bits.view(torch.float32)
    master = master[master.isfinite()]
    ties = torch.tensor([0x3F808000, 0x3F818000, -0x407F8000], dtype=torch.int64).to(torch.int32)
    master = torch.cat([master, torch.zeros(2), ties.view(torch.float32)])
    weight, rest = (
        torch.empty_like(master, dtype=torch.bfloat16),
        torch.empty(len(master), dtype=torch.int16),
    )
    cut(master, weight, rest)
    assert torch.equal(join(weight, rest).view(torch.int32), master.view(torch.int32))
    nearest = master.to(torch.bfloat16)
    assert (weight == nearest).float().mean() > 0.999  # all but ties, which go up


def test_rounding_by_chance_has_no_bias() -> None:
    x = torch.rand(400_000, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    rounded = round_by_chance(x.clone(), 7).float()
    ulp = x.abs() * 2**-7
    assert ((rounded - x).abs() <= ulp).all()
    assert abs(float(((rounded - x) / ulp).mean())) < 1e-3
    assert torch.equal(rounded, round_by_chance(x.clone(), 7).float())
    assert not torch.equal(rounded, round_by_chance(x.clone(), 8).float())


def test_a_mean_square_forgets_at_its_rate() -> None:
    """Rounded to the nearest, a memory of .999 would never forget anything."""
    begun = torch.rand(10_000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    square = begun
    for step in range(500):
        square = round_by_chance(square.float() * 0.999, 2 * step + 1)
    share = float(square.float().mean() / begun.float().mean())
    assert abs(share / 0.999**500 - 1) < 0.01


def steps(adam: Optimizer, model: nn.Module, count: int) -> None:
    for step in range(count):
        for part in (0, 1):  # two rows are accumulated
            backward(model, 2 * step + part)
        adam.sums.clip(1.0)
        adam.step(1.0)


def test_it_goes_where_adamw_goes() -> None:
    lean, full = net(torch.bfloat16), net(torch.bfloat16)
    recipe = Recipe(learning_rate=3e-3, weight_decay=0.1, lean_optimizer=True)
    begun = [p.detach().float() for p in full.parameters()]
    one = LeanAdamW(dict(lean.named_parameters()), recipe)
    other = MasterAdamW(dict(full.named_parameters()), recipe, torch.bfloat16)
    steps(one, lean, 40)
    steps(other, full, 40)
    full_moved, lean_moved = (
        torch.cat([(p - b).flatten() for p, b in zip(adam.whole().values(), begun, strict=True)])
        for adam in (other, one)
    )
    assert (lean_moved - full_moved).norm() < 0.05 * full_moved.norm()


def test_small_updates_are_not_lost() -> None:
    model = net(torch.bfloat16)
    before = model[0].weight.detach().clone()
    adam = LeanAdamW(dict(model.named_parameters()), Recipe(learning_rate=1e-4))
    steps(adam, model, 60)
    assert model[0].weight.dtype == torch.bfloat16
    assert (model[0].weight - before).abs().float().mean() > 1e-3
    assert torch.equal(adam.whole()["0.weight"].to(torch.bfloat16), model[0].weight)


def test_float32_weights_are_not_cut_short() -> None:
    model = net(torch.float32)
    full = model[0].weight.detach().clone()
    adam = LeanAdamW(dict(model.named_parameters()), Recipe())
    assert torch.equal(adam.whole()["0.weight"], full)
    assert model[0].weight.dtype == torch.bfloat16


def test_state_goes_on_bit_for_bit() -> None:
    first, second = net(torch.bfloat16), net(torch.bfloat16)
    recipe = Recipe(learning_rate=1e-2)
    adam = LeanAdamW(dict(first.named_parameters()), recipe)
    steps(adam, first, 3)
    kept = {name: tensor.clone() for name, tensor in adam.state().items()}
    again = LeanAdamW(dict(second.named_parameters()), recipe)
    again.load(Kept(kept))
    for model, optimizer in ((first, adam), (second, again)):
        steps(optimizer, model, 2)
    left, right = adam.state(), again.state()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_bytes_of_a_weight() -> None:
    model = nn.Linear(256, 256, bias=False).to(torch.bfloat16)
    adam = LeanAdamW(dict(model.named_parameters()), Recipe())
    model(torch.ones(1, 256, dtype=torch.bfloat16)).sum().backward()
    held: list[Tensor] = [*adam.sums.total.values()]
    adam.step(1.0)
    held += [t for name, t in adam.state().items() if name != "steps"]
    assert sum(t.numel() * t.element_size() for t in held) == 12 * 256 * 256


@pytest.mark.parametrize("values", [{"shard": 0}, {"precision": "fp32"}, {"tensor_parallel": 2}])
def test_where_it_does_not_work_it_says_so(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="lean_optimizer"):
        Recipe(lean_optimizer=True, **values)  # type: ignore[arg-type]
