"""The fused layer is Hugging Face's: outputs, every gradient, names, and what it leaves alone."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from neva.model.attention import PACKED, as_mask, register_packed_attention
from neva.train import fused, kernels
from neva.train.fused import FusedLayer, use_fused_layers
from neva.train.kernels import open_kernels

register_packed_attention()
pytestmark = pytest.mark.skipif(open_kernels(torch.float32) is None, reason="no C compiler")

LENGTHS = [5, 1, 19, 8]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def body(dtype: torch.dtype = torch.float32, lora: bool = False, learns: bool = True) -> nn.Module:
    """Two layers with grouped heads, whose every number is random, adapters' ends too."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, vocab_size=50, attn_implementation=PACKED,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(learns)
    if lora:
        shape = LoraConfig(r=4, lora_alpha=6, target_modules=LINEARS)
        model = inject_adapter_in_model(shape, model)
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return model.model.to(dtype)


def fuse(body: nn.Module) -> nn.Module:
    other = copy.deepcopy(body)
    for place, layer in enumerate(other.layers):
        other.layers[place] = FusedLayer(layer)
    return other


def run(body: nn.Module, x: Tensor, **given: object) -> list[Tensor]:
    """The output, and the gradients of x and of all that learns, in float32."""
    dtype = next(body.parameters()).dtype
    x = x.to(torch.bfloat16).to(dtype).requires_grad_()
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    borders = as_mask(torch.tensor([0, *LENGTHS]).cumsum(0))
    given = {"attention_mask": borders, "position_ids": positions, "use_cache": False, **given}
    out = body(inputs_embeds=x, **given).last_hidden_state
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weight.to(dtype)).sum().backward()
    grads = [p.grad for p in body.parameters() if p.requires_grad and p.grad is not None]
    return [tensor.detach().float() for tensor in (out, x.grad, *grads)]


def row() -> Tensor:
    return torch.randn(1, sum(LENGTHS), 48, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("block", "short"), [(192, 192), (192, 0), (7, 0), (7, 8)])
@pytest.mark.parametrize(("lora", "learns"), [(False, True), (True, False), (False, False)])
def test_equal_in_float32(
    lora: bool, learns: bool, block: int, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever documents go through the kernel of short ones."""
    monkeypatch.setattr(fused, "BLOCK", block)
    monkeypatch.setattr(fused, "SHORT", short)
    theirs = body(lora=lora, learns=learns)
    ours = fuse(theirs)
    found, wanted = run(ours, row()), run(theirs, row())
    assert (
        len(found)
        == len(wanted)
        == 2
        + sum(p.requires_grad for p in theirs.parameters())
        - (
            learns  # the embedding is not used
        )
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("short", [192, 0])
@pytest.mark.parametrize("lora", [False, True])
def test_in_bfloat16_no_further_from_float32_than_hugging_face(
    lora: bool, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "SHORT", short)
    theirs = body(torch.bfloat16, lora=lora, learns=not lora)
    ours, exact = fuse(theirs), copy.deepcopy(theirs).float()
    for a, b, true in zip(*(run(m, row()) for m in (ours, theirs, exact)), strict=True):
        bound = 1.3 * float((b - true).norm()) + 1e-3 * float(true.norm())
        assert float((a - true).norm()) < bound


@pytest.mark.parametrize("lora", [False, True])
def test_computed_again_it_is_the_same_bit_for_bit(
    lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under activation checkpointing each layer runs twice, both times in our steps."""
    plain = fuse(body(lora=lora, learns=not lora))
    again = copy.deepcopy(plain)
    again.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in again.layers:
        layer.training = True  # of the layer alone, as `neva.train.learner` does
    times: list[int] = []
    attend = fused._attend
    monkeypatch.setattr(fused, "_attend", lambda *given: (times.append(1), attend(*given))[1])
    found = run(again, row())
    assert len(times) == 2 * len(again.layers)
    for a, b in zip(found, run(plain, row()), strict=True):
        assert torch.equal(a, b)
    assert len(times) == 3 * len(again.layers)


def test_the_steps_are_ours_and_names_stay() -> None:
    theirs = body()
    ours = fuse(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = row().requires_grad_()
    cos_sin = ours.rotary_emb(x, torch.arange(x.shape[1])[None])
    borders = as_mask(torch.tensor([0, x.shape[1]]))
    out = ours.layers[0](x, attention_mask=borders, position_embeddings=cos_sin)
    assert "_Layer" in type(out.grad_fn.next_functions[0][0]).__name__


def test_other_calls_go_the_old_way() -> None:
    theirs = body()
    ours = fuse(theirs)
    for given in ({"attention_mask": None}, {"use_cache": True, "attention_mask": None}):
        for a, b in zip(run(ours, row(), **given), run(theirs, row(), **given), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("change", ["bias", "dropout", "merged"])
def test_an_unknown_layer_is_left_alone(change: str) -> None:
    theirs = body(lora=change != "bias")
    attention = theirs.layers[0].self_attn
    if change == "bias":
        attention.q_proj.bias = nn.Parameter(torch.randn(48))
    elif change == "dropout":
        attention.q_proj.lora_dropout["default"] = nn.Dropout(0.5).eval()
    else:
        attention.q_proj.merge()
    ours = fuse(theirs)
    for a, b in zip(run(ours, row()), run(theirs, row()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_only_llamas_are_replaced_and_only_with_a_compiler(
    parent: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from neva.model.load import load_model

    model = load_model(parent, dtype=torch.float32)
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    open_kernels.cache_clear()
    assert use_fused_layers(model) == 0
    assert "without C kernels" in caplog.text
    monkeypatch.undo()
    open_kernels.cache_clear()
    assert use_fused_layers(model) == len(model.model.language_model.layers)
    assert use_fused_layers(model) == 0


def test_not_a_number_stays_one() -> None:
    kernel = kernels.open_kernels(torch.bfloat16)
    assert kernel is not None
    one = torch.ones(4, dtype=torch.bfloat16)
    assert kernel.swiglu(one * torch.nan, one).isnan().all()
    _, y, _ = kernel.norm(torch.full((1, 4), torch.inf).to(one), one, 1e-5)
    assert y.isnan().any()
