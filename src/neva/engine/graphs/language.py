"""The GPT as a stateful OpenVINO graph, from embeddings to logits: llama, mistral, qwen2.

The shape of the KV cache's subgraph is not free: openvino-genai turns it into paged attention by
pattern. Each cache must be ReadValue with a Broadcast initialiser -> Gather by `beam_idx` ->
Concat with the new keys -> scaled dot product attention; and the rotary embedding must be written
with Slices and a Multiply by -1 to be fused. tests/engine/test_graphs.py keeps parity with torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from openvino import Model, PartialShape, Type, opset15

from neva.engine.graphs.able import check_language
from neva.engine.graphs.nodes import (
    Array,
    Node,
    eight,
    i64,
    linear,
    model,
    parameter,
    real,
    rms_norm,
    scalar,
    split,
)
from neva.engine.graphs.rope import frequencies
from neva.engine.precision import Weights
from neva.model.keys import BODY, HEAD


@dataclass(frozen=True)
class Shape:
    """What the graph needs to know of the LM: D width, heads, KV heads, head size, layers, eps."""

    width: int
    heads: int
    kv_heads: int
    head: int
    layers: int
    eps: float
    inverse_frequencies: Array

    @classmethod
    def read(cls, config: Mapping[str, Any], tensors: Mapping[str, Array]) -> "Shape":
        """From the LM's config (defaults filled in); sizes are taken from the tensors."""
        check_language(config)
        query = tensors[f"{BODY}layers.0.self_attn.q_proj.weight"]
        keys = tensors[f"{BODY}layers.0.self_attn.k_proj.weight"]
        heads = int(config["num_attention_heads"])
        head = query.shape[0] // heads
        return cls(
            width=query.shape[1],
            heads=heads,
            kv_heads=keys.shape[0] // head,
            head=head,
            layers=int(config["num_hidden_layers"]),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            inverse_frequencies=frequencies(config, head),
        )


@dataclass(frozen=True)
class _Shared:
    """Nodes that every layer uses: the inputs, the rotation, the mask."""

    batch: Node
    beam: Node
    mask: Node
    cos: Node
    sin: Node


def language_model(
    config: Mapping[str, Any],
    tensors: Mapping[str, Array],
    vocabulary: int,
    forbidden: tuple[int, ...],
    weights: Weights,
) -> Model:
    """inputs_embeds (B, T, D), attention_mask, position_ids, beam_idx -> logits (B, T, vocabulary).

    `config` is `neva.model.shapes.text_config`'s, `tensors` go by their disk names. Rows of the
    head from `vocabulary` on are left out and the `forbidden` ids get -inf, so a padding row or the
    image token is never chosen.
    """
    shape = Shape.read(config, tensors)
    embeds = parameter("inputs_embeds", [-1, -1, shape.width], Type.f32)
    attention = parameter("attention_mask", [-1, -1], Type.i64)
    positions = parameter("position_ids", [-1, -1], Type.i64)
    beam = parameter("beam_idx", [-1], Type.i32)
    shared = _shared(embeds, attention, positions, beam, shape)
    sinks: list[Node] = []
    x = embeds
    for index in range(shape.layers):
        layer = _Layer(f"{BODY}layers.{index}.", index, tensors, shape, weights)
        x = opset15.add(x, layer.attention(x, shared, sinks))
        x = opset15.add(x, layer.mlp(x))
    x = rms_norm(x, tensors[f"{BODY}norm.weight"], shape.eps)
    head = tensors.get(HEAD, tensors[f"{BODY}embed_tokens.weight"])
    logits = linear(x, head[:vocabulary], _bias(vocabulary, forbidden), eight(weights))
    return model("language", "logits", logits, [embeds, attention, positions, beam], sinks)


def _bias(vocabulary: int, forbidden: tuple[int, ...]) -> Array | None:
    """-inf at ids that must never be chosen, or nothing if the rows are already left out."""
    inside = [token for token in forbidden if token < vocabulary]
    if not inside:
        return None
    bias = np.zeros(vocabulary, np.float32)
    bias[inside] = -np.inf
    return bias


def _shared(embeds: Node, attention: Node, positions: Node, beam: Node, shape: Shape) -> _Shared:
    """Rotation (B, 1, T, head) and causal mask (B, 1, T, T + past).

    Paged attention replaces the mask; it is here for the plain runtime, i.e. for the parity test.
    """
    angles = opset15.matmul(
        opset15.convert(opset15.unsqueeze(positions, scalar(2)), Type.f32),
        opset15.constant(shape.inverse_frequencies[None, None, :]),
        False,
        False,
    )
    angles = opset15.concat([angles, angles], -1)
    size = opset15.shape_of(embeds, "i64")
    total = opset15.gather(opset15.shape_of(attention, "i64"), scalar(1), scalar(0))
    start = opset15.subtract(total, opset15.gather(size, scalar(1), scalar(0)))
    rows = opset15.range(start, total, scalar(1), Type.i64)
    columns = opset15.range(scalar(0), total, scalar(1), Type.i64)
    causal = opset15.less_equal(
        opset15.unsqueeze(columns, scalar(0)), opset15.unsqueeze(rows, scalar(1))
    )
    present = opset15.unsqueeze(opset15.convert(attention, Type.boolean), i64(1, 2))
    visible = opset15.logical_and(opset15.unsqueeze(causal, i64(0, 1)), present)
    return _Shared(
        batch=opset15.gather(size, i64(0), scalar(0)),
        beam=beam,
        mask=opset15.select(visible, real(0), real(float(np.finfo(np.float32).min))),
        cos=opset15.unsqueeze(opset15.cos(angles), scalar(1)),
        sin=opset15.unsqueeze(opset15.sin(angles), scalar(1)),
    )


@dataclass(frozen=True)
class _Layer:
    """One transformer block, `root` its tensors' prefix."""

    root: str
    index: int
    tensors: Mapping[str, Array]
    shape: Shape
    weights: Weights

    def attention(self, x: Node, shared: _Shared, sinks: list[Node]) -> Node:
        """Self-attention over the cache; appends this layer's two cache writes to `sinks`."""
        shape = self.shape
        x = rms_norm(x, self.tensors[f"{self.root}input_layernorm.weight"], shape.eps)
        joined = self._linear(x, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        turning = shape.heads + shape.kv_heads
        both, value = split(joined, -1, turning * shape.head, shape.kv_heads * shape.head)
        both = self._rotate(self._heads(both, turning), shared)
        query, key = split(both, 1, shape.heads, shape.kv_heads)
        value = self._heads(value, shape.kv_heads)
        key = self._spread(self._cached(key, "key", shared, sinks), shared)
        value = self._spread(self._cached(value, "value", shared, sinks), shared)
        mixed = opset15.scaled_dot_product_attention(query, key, value, shared.mask)
        mixed = opset15.transpose(mixed, i64(0, 2, 1, 3))
        mixed = opset15.reshape(mixed, i64(0, 0, shape.heads * shape.head), True)
        return self._linear(mixed, "self_attn.o_proj")

    def mlp(self, x: Node) -> Node:
        """SwiGLU."""
        x = rms_norm(x, self.tensors[f"{self.root}post_attention_layernorm.weight"], self.shape.eps)
        joined = self._linear(x, "mlp.gate_proj", "mlp.up_proj")
        width = len(self.tensors[f"{self.root}mlp.up_proj.weight"])
        gate, up = split(joined, -1, width, width)
        return self._linear(opset15.multiply(opset15.swish(gate), up), "mlp.down_proj")

    def _linear(self, x: Node, *names: str) -> Node:
        """The product, or several of one input as one, side by side: while a token is decoded, the
        starts of kernels count as much as what they compute."""
        found = [self.tensors[f"{self.root}{name}.weight"] for name in names]
        biases = [self.tensors.get(f"{self.root}{name}.bias") for name in names]
        whole = None
        if any(bias is not None for bias in biases):
            whole = np.concatenate([
                np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32)
                for bias, weight in zip(biases, found, strict=True)
            ])  # fmt: skip
        return linear(x, np.concatenate(found), whole, self.weights)

    def _heads(self, x: Node, heads: int) -> Node:
        """(B, T, heads * head) -> (B, heads, T, head)."""
        parted = opset15.reshape(x, i64(0, 0, heads, self.shape.head), True)
        return opset15.transpose(parted, i64(0, 2, 1, 3))

    def _rotate(self, x: Node, shared: _Shared) -> Node:
        """Rotary positions on (B, heads, T, head); halves rotated as Hugging Face has it."""
        half, end = self.shape.head // 2, np.iinfo(np.int32).max
        first = opset15.slice(x, i64(0), i64(half), i64(1), i64(3))
        second = opset15.slice(x, i64(half), i64(int(end)), i64(1), i64(3))
        turned = opset15.concat([opset15.multiply(second, real(-1)), first], -1)
        return opset15.add(opset15.multiply(x, shared.cos), opset15.multiply(turned, shared.sin))

    def _cached(self, new: Node, kind: str, shared: _Shared, sinks: list[Node]) -> Node:
        """The cache's content followed by `new`: (B, kv heads, past + T, head)."""
        heads, head = self.shape.kv_heads, self.shape.head
        name = f"past_key_values.{self.index}.{kind}present.{self.index}.{kind}"
        empty = opset15.broadcast(
            real(0), opset15.concat([shared.batch, i64(heads), i64(0), i64(head)], 0)
        )
        past = opset15.read_value(empty, name, Type.f32, PartialShape([-1, heads, -1, head]))
        whole = opset15.concat([opset15.gather(past, shared.beam, scalar(0)), new], 2)
        sinks.append(opset15.assign(whole, name))
        return whole

    def _spread(self, x: Node, shared: _Shared) -> Node:
        """Grouped queries: repeat each KV head for its group, (B, heads, T, head)."""
        shape = self.shape
        groups = shape.heads // shape.kv_heads
        if groups == 1:
            return x
        length = opset15.gather(opset15.shape_of(x, "i64"), i64(2), scalar(0))
        target = opset15.concat(
            [shared.batch, i64(shape.kv_heads), i64(groups), length, i64(shape.head)], 0
        )
        wide = opset15.broadcast(opset15.unsqueeze(x, scalar(2)), target, "BIDIRECTIONAL")
        return opset15.reshape(wide, i64(0, shape.heads, -1, shape.head), True)
