"""A LLaMA decoder layer on a CPU as one step of autograd, forwards and backwards by hand.

The same numbers as Hugging Face's layer (`tests/train/test_fused.py`), in fewer passes over memory:
chains of small operations are kernels of `neva.train.kernels`; what is cheap to compute again (both
norms, the attention's weights, the product in the MLP) is not kept; frozen weights get no gradient;
an adapter is two thin products beside its layer's. Only layers whose arithmetic is known exactly
are replaced, and each goes its old way for what it does not know: a cache, dropout, DTensors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from neva.train.kernels import Kernels, open_kernels
from neva.train.linear import Linear, plain_linear
from neva.train.packed import Packed

BLOCK = (
    192  # positions whose scores are in memory at once; what lies above the diagonal is not made
)
SHORT = 1024  # documents up to here are attended to by one kernel for all of them

Turn = tuple[Tensor, Tensor]


def use_fused_layers(model: LlavaForConditionalGeneration) -> int:
    """Replace the language model's layers, where this file knows them; how many were.

    Parameters keep their names, and may be frozen, adapted or wrapped afterwards.
    """
    layers = getattr(model.model.language_model, "layers", None)
    dtype = model.lm_head.weight.dtype
    if not layers or any(type(layer) is not LlamaDecoderLayer for layer in layers):
        return 0
    if model.config.text_config.hidden_act != "silu" or open_kernels(dtype) is None:
        return 0
    for place, layer in enumerate(layers):
        layers[place] = FusedLayer(layer)
    return len(layers)


@dataclass(frozen=True)
class Plan:
    """What a layer computes besides its weights."""

    kernels: Kernels
    borders: Tensor
    """(documents + 1,) int32"""
    shared: int
    group: int
    width: int
    """Heads of keys, queries for each of them, numbers in each."""
    scaling: float
    epsilons: tuple[float, float]
    scales: tuple[float, ...]
    """Of the seven adapters; 0 where there is none."""
    packed: tuple[Packed | None, ...]
    """Of the seven weights; None where it is a tensor."""

    def blocks(self, x: Tensor, group: int) -> Iterator[Tensor]:
        """Long documents of flat blocks: (shared, L * group, width) each, views of x."""
        size = self.shared * group * self.width
        flat = x.view(-1)
        for start, stop in pairwise(self.borders.tolist()):
            if stop - start > SHORT:
                yield flat[start * size : stop * size].view(self.shared, -1, self.width)

    @property
    def heads(self) -> tuple[int, int, int]:
        return self.shared, self.group, self.width


class FusedLayer(LlamaDecoderLayer):  # type: ignore[misc]
    """A layer in the place of `layer`, whose modules it takes over under their names."""

    def __init__(self, layer: LlamaDecoderLayer) -> None:
        nn.Module.__init__(self)
        self.hidden_size = layer.hidden_size
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.input_layernorm = layer.input_layernorm
        self.post_attention_layernorm = layer.post_attention_layernorm
        self.train(layer.training)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As `LlamaDecoderLayer.forward`: (1, T, D) -> (1, T, D)."""
        turn = kwargs.get("position_embeddings")
        linears = self._linears()
        plan = self._plan(hidden_states, linears, turn, kwargs)
        if args or plan is None or linears is None or turn is None:
            return super().forward(hidden_states, *args, **kwargs)
        cos, sin = (part[0].contiguous() for part in turn)
        weights: list[Tensor | None] = [
            self.input_layernorm.weight,
            self.post_attention_layernorm.weight,
        ]
        for linear in linears:
            weights += linear.tensors
        return _Layer.apply(hidden_states[0], cos, sin, plan, *weights)[None]  # type: ignore[no-untyped-call]

    def _linears(self) -> list[Linear] | None:
        """q, k, v, o, gate, up, down; None where one is of an unknown kind."""
        a, m = self.self_attn, self.mlp
        modules = (a.q_proj, a.k_proj, a.v_proj, a.o_proj, m.gate_proj, m.up_proj, m.down_proj)
        known = [plain_linear(module) for module in modules]
        return None if None in known else known  # type: ignore[return-value]

    def _plan(
        self, x: Tensor, linears: list[Linear] | None, turn: Turn | None, given: dict[str, Any]
    ) -> Plan | None:
        """None where this call is not the packed training forward in one plain dtype."""
        mask, attention = given.get("attention_mask"), self.self_attn
        dropout = self.training and attention.attention_dropout
        if mask is None or mask.dtype != torch.int32 or turn is None or linears is None or dropout:
            return None
        if given.get("past_key_values") is not None or len(x) != 1 or x.device.type != "cpu":
            return None
        if turn[0].shape != (1, x.shape[1], attention.head_dim) or attention.head_dim % 2:
            return None
        norms = (self.input_layernorm, self.post_attention_layernorm)
        weights = [part for linear in linears for part in linear.tensors if part is not None]
        for weight in (*weights, turn[0], *(norm.weight for norm in norms)):
            if weight.dtype != x.dtype or type(weight) not in (Tensor, nn.Parameter):
                return None
        kernels = open_kernels(x.dtype)
        heads = linears[0].width // attention.head_dim
        shared = linears[1].width // attention.head_dim
        if kernels is None:
            return None
        return Plan(
            kernels=kernels,
            borders=mask.flatten(),
            shared=shared,
            group=heads // shared,
            width=attention.head_dim,
            scaling=float(attention.scaling),
            epsilons=(float(norms[0].variance_epsilon), float(norms[1].variance_epsilon)),
            scales=tuple(linear.scale for linear in linears),
            packed=tuple(y.weight if isinstance(y.weight, Packed) else None for y in linears),
        )


class _Layer(Function):
    """x + attention(norm(x)), and that + mlp(norm(that)); (T, D) -> (T, D)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, plan: Plan, *weights: Tensor | None
    ) -> Tensor:
        norm_1, norm_2, q, k, v, o, gate, up, down = _parts(plan, weights)
        kernels, heads = plan.kernels, plan.heads
        keys = (plan.shared, 1, plan.width)
        x = x.contiguous()
        _, h, inverse_1 = kernels.norm(x, norm_1, plan.epsilons[0])
        query, q_in = q.forward(h)
        query = kernels.to_blocks(query, plan.borders, heads, (cos, sin))
        key, k_in = k.forward(h)
        key = kernels.to_blocks(key, plan.borders, keys, (cos, sin))
        value, v_in = v.forward(h)
        value = kernels.to_blocks(value, plan.borders, keys)
        attended = kernels.from_blocks(_attend(plan, query, key, value), plan.borders, heads)
        out, o_in = o.forward(attended)
        middle, h, inverse_2 = kernels.norm(x, norm_2, plan.epsilons[1], add=out)
        gates, gate_in = gate.forward(h)
        ups, up_in = up.forward(h)
        result, down_in = down.forward(kernels.swiglu(gates, ups))
        ctx.plan, ctx.weights = plan, len(weights)
        learned = any(ctx.needs_input_grad[15:18])  # only o's own gradients need what it was given
        ctx.save_for_backward(
            *weights, x, cos, sin, inverse_1, query, key, value, attended if learned else None,
            middle, inverse_2, gates, ups, q_in, k_in, v_in, o_in, gate_in, up_in, down_in,
        )  # fmt: skip
        added: Tensor = result.add_(middle)
        return added

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: under checkpointing each reading computes anew
        plan, weights = ctx.plan, saved[: ctx.weights]
        norm_1, norm_2, q, k, v, o, gate, up, down = _parts(plan, weights)
        x, cos, sin, inverse_1, query, key, value, attended, middle, inverse_2, gates, ups = saved[
            ctx.weights : ctx.weights + 12
        ]
        inner = saved[ctx.weights + 12 :]
        kernels, needs = plan.kernels, ctx.needs_input_grad[4:]
        grads: list[Tensor | None] = [None] * ctx.weights

        def learns(*places: int) -> bool:
            """Whether any of these linear layers needs what it was given."""
            return any(any(needs[2 + 3 * place : 5 + 3 * place]) for place in places)

        def learn(
            place: int, linear: Linear, g: Tensor, x: Tensor | None, dinner: Tensor | None
        ) -> None:
            at = slice(2 + 3 * place, 5 + 3 * place)
            if x is not None:
                grads[at] = linear.weights(g, x, inner[place], dinner, needs[at])

        g = g.contiguous()
        dproduct, dinner = down.inwards(g)
        dgate, dup, product = kernels.swiglu_backward(dproduct, gates, ups, again=learns(6))
        learn(6, down, g, product, dinner)
        del product, dproduct
        h = kernels.norm_again(middle, norm_2, inverse_2) if learns(4, 5) else None
        dh, dinner = up.inwards(dup)
        learn(5, up, dup, h, dinner)
        dh, dinner = gate.inwards(dgate, dh)
        learn(4, gate, dgate, h, dinner)
        del dup, dgate
        grads[1] = kernels.norm_weight(dh, middle, inverse_2) if needs[1] else None
        g = kernels.norm_backward(dh, middle, norm_2, inverse_2, g)

        dattended, dinner = o.inwards(g)
        learn(3, o, g, attended, dinner)
        heads, keys = plan.heads, (plan.shared, 1, plan.width)
        dattended = kernels.to_blocks(dattended, plan.borders, heads)
        dquery, dkey, dvalue = _attend_backward(plan, dattended, query, key, value)
        dquery = kernels.from_blocks(dquery, plan.borders, heads, (cos, sin), back=True)
        dkey = kernels.from_blocks(dkey, plan.borders, keys, (cos, sin), back=True)
        dvalue = kernels.from_blocks(dvalue, plan.borders, keys)
        h = kernels.norm_again(x, norm_1, inverse_1) if learns(0, 1, 2) else None
        dh, dinner = q.inwards(dquery)
        learn(0, q, dquery, h, dinner)
        dh, dinner = k.inwards(dkey, dh)
        learn(1, k, dkey, h, dinner)
        dh, dinner = v.inwards(dvalue, dh)
        learn(2, v, dvalue, h, dinner)
        grads[0] = kernels.norm_weight(dh, x, inverse_1) if needs[0] else None
        dx = kernels.norm_backward(dh, x, norm_1, inverse_1, g)
        return dx, None, None, None, *grads


def _parts(plan: Plan, weights: Sequence[Tensor | None]) -> Any:
    """Both norms and the seven linear layers, from the order of `FusedLayer.forward`."""
    linears = [
        Linear(packed or weights[at], weights[at + 1], weights[at + 2], scale)  # type: ignore[arg-type]
        for at, packed, scale in zip(
            range(2, len(weights), 3), plan.packed, plan.scales, strict=True
        )
    ]
    return (*weights[:2], *linears)


def _pieces(length: int) -> Iterator[tuple[int, int]]:
    """Positions [start, stop) of a document whose scores are computed together."""
    for start in range(0, length, BLOCK):
        yield start, min(start + BLOCK, length)


def _attend(plan: Plan, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention within each document, on flat blocks; as `query`."""
    out, group = torch.empty_like(query), plan.group
    plan.kernels.attend(query, key, value, out, plan.borders, plan.heads, SHORT, plan.scaling)
    documents = zip(
        plan.blocks(query, group), plan.blocks(key, 1), plan.blocks(value, 1),
        plan.blocks(out, group), strict=True,
    )  # fmt: skip
    for q, k, v, o in documents:
        for start, stop in _pieces(k.shape[1]):
            rows = slice(start * group, stop * group)
            scores = torch.bmm(q[:, rows], k[:, :stop].transpose(1, 2))
            weights = plan.kernels.softmax(scores, start, group, plan.scaling)
            o[:, rows] = torch.bmm(weights, v[:, :stop])
    return out


def _attend_backward(
    plan: Plan, g: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, on flat blocks."""
    group = plan.group
    dquery, dkey, dvalue = (torch.empty_like(x) for x in (query, key, value))
    inputs, grads = (query, key, value), (dquery, dkey, dvalue)
    plan.kernels.attend_backward(g, inputs, grads, plan.borders, plan.heads, SHORT, plan.scaling)
    documents = zip(
        plan.blocks(g, group), plan.blocks(query, group), plan.blocks(key, 1),
        plan.blocks(value, 1), plan.blocks(dquery, group), plan.blocks(dkey, 1),
        plan.blocks(dvalue, 1), strict=True,
    )  # fmt: skip
    for do, q, k, v, dq, dk, dv in documents:
        # Keys are seen by several pieces, whose shares are added in float32.
        long = k.shape[1] > BLOCK
        dk_sum = torch.zeros_like(k, dtype=torch.float32) if long else dk
        dv_sum = torch.zeros_like(v, dtype=torch.float32) if long else dv
        for start, stop in _pieces(k.shape[1]):
            rows = slice(start * group, stop * group)
            scores = torch.bmm(q[:, rows], k[:, :stop].transpose(1, 2))
            weights = plan.kernels.softmax(scores, start, group, plan.scaling)
            dscores = torch.bmm(do[:, rows], v[:, :stop].transpose(1, 2))
            dv_part = torch.bmm(weights.transpose(1, 2), do[:, rows])
            plan.kernels.softmax_backward(dscores, weights, start, group, plan.scaling)
            dq[:, rows] = torch.bmm(dscores, k[:, :stop])
            dk_part = torch.bmm(dscores.transpose(1, 2), q[:, rows])
            if long:
                dk_sum[:, :stop] += dk_part
                dv_sum[:, :stop] += dv_part
            else:
                dk.copy_(dk_part)
                dv.copy_(dv_part)
        if long:
            dk.copy_(dk_sum)
            dv.copy_(dv_sum)
    return dquery, dkey, dvalue
