"""Packed layers give what plain ones give, and are only of what is frozen."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from neva.model import Checkpoint
from neva.model.load import load_model
from neva.train import packed
from neva.train.learner import Learner
from neva.train.packed import PackedLinear, pack_frozen
from neva.train.recipe import Recipe

pytestmark = pytest.mark.skipif(not packed.can_pack(), reason="no bfloat16 products on this CPU")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 640])
def test_the_same_numbers(bias: bool, rows: int) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(96, 160, bias=bias)).bfloat16().requires_grad_(False)
    exact = nn.Linear(96, 160, bias=bias).requires_grad_(False)
    exact.load_state_dict({name[2:]: t.float() for name, t in plain.state_dict().items()})
    x = torch.randn(2, rows, 96).bfloat16()
    g = torch.randn(2, rows, 160).bfloat16()
    found = []
    for layer in (plain, exact, plain):
        given = x.to(next(exact.parameters()).dtype if layer is exact else x.dtype)
        given = given.detach().requires_grad_()
        out = layer(given)
        out.backward(g.to(out.dtype))
        found.append((out.detach().float(), given.grad.float()))
        if layer is exact:
            assert pack_frozen(plain) == 1
            assert isinstance(plain[0], PackedLinear) and "out_features=160" in repr(plain)
            assert not list(plain.parameters())
    for ours, theirs, true in zip(found[2], found[0], found[1], strict=True):
        bound = 1.1 * float((theirs - true).norm()) + 1e-6
        assert float((ours - true).norm()) < bound


def test_nothing_is_packed_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    body = nn.Sequential(nn.Linear(8, 8).bfloat16().requires_grad_(False))
    assert pack_frozen(body) == 0 and type(body[0]) is nn.Linear


def test_only_what_is_plain_frozen_and_bfloat16() -> None:
    learning = nn.Linear(8, 8).bfloat16()
    precise = nn.Linear(8, 8).requires_grad_(False)
    frozen = nn.Linear(8, 8).bfloat16().requires_grad_(False)
    body = nn.ModuleList([learning, precise, nn.Sequential(frozen)])
    assert pack_frozen(body, gradient=False) == 1
    assert body[0] is learning and body[1] is precise
    packed = body[2][0]
    with pytest.raises(RuntimeError, match="without a gradient"):
        packed(torch.randn(3, 8).bfloat16().requires_grad_()).sum().backward()


@pytest.mark.parametrize("lora", [False, True])
def test_a_learner_packs_what_it_does_not_learn(
    parent: Checkpoint, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(stage="finetune" if lora else "pretrain", lora=lora, precision="bf16")
    packed, plain = (Learner(parent, replace(recipe, pack=pack)) for pack in (None, False))
    monkeypatch.setattr("neva.train.cpu_limits.PACKED_UP_TO", 0)
    large = Learner(parent, recipe)
    whole = Learner(parent, Recipe(stage="finetune", precision="bf16", pack=True))
    for learner, in_lm in ((packed, True), (plain, False), (large, False), (whole, False)):
        found = [
            any(type(m) is PackedLinear for m in part.modules())
            for part in (learner.model.model.vision_tower, learner.model.model.language_model)
        ]
        assert found == [True, in_lm]
    learned = [set(learner.trained()) for learner in (packed, plain)]
    assert learned[0] == learned[1]


def test_an_answer_of_a_packed_model_is_the_plain_ones(parent: Checkpoint, tmp_path: Path) -> None:
    """Probes ask through Hugging Face's own layers, a token at a time."""
    learner = Learner(parent, Recipe(precision="bf16", pack=True))
    plain = load_model(parent, dtype=torch.bfloat16)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        answers = [
            model.generate(inputs_embeds=plain.get_input_embeddings()(ids), max_new_tokens=5,
                           do_sample=False)
            for model in (learner.model, plain)
        ]  # fmt: skip
    assert torch.equal(*answers)
