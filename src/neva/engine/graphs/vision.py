"""CLIP's vision tower up to the feature layer, and LLaVA's projector, as one OpenVINO graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from openvino import Model, Type, opset15

from neva.engine.graphs.able import check_activation, check_tower
from neva.engine.graphs.nodes import (
    Array,
    Node,
    eight,
    exact,
    i64,
    layer_norm,
    linear,
    model,
    parameter,
    real,
    scalar,
)
from neva.engine.precision import Weights
from neva.model.keys import PROJECTOR, VISION
from neva.model.shapes import feature_layers, vision_config


def vision_model(
    config: Mapping[str, Any], tensors: Mapping[str, Array], weights: Weights = "exact"
) -> Model:
    """pixel_values (N, 3, H, W) -> last_hidden_state (N, P, D), the projected image tokens.

    `config` is the whole config.json. The features are those of `vision_feature_layer` (several
    are joined), without CLS unless `vision_feature_select_strategy` is "full". `weights` is of the
    matrices; "int4" makes them int8. Compressed ones stay so: exact ones of 16 bits are held in 32
    and once more as the kernels want them.
    """
    tower = _Tower.read(config, tensors, eight(weights))
    size = tower.size
    pixels = parameter("pixel_values", [-1, 3, size, size], Type.f32)
    states = tower.states(pixels, max(tower.layers))
    features = [states[layer] for layer in tower.layers]
    x = features[0] if len(features) == 1 else opset15.concat(features, -1)
    if config.get("vision_feature_select_strategy", "default") == "default":
        x = opset15.slice(x, i64(1), i64(np.iinfo(np.int32).max), i64(1), i64(1))
    x = _projected(x, "linear_1", tensors, tower.weights)
    x = _activation(x, str(config.get("projector_hidden_act", "gelu")))
    x = _projected(x, "linear_2", tensors, tower.weights)
    return model("vision", "last_hidden_state", x, [pixels], [])


def _projected(x: Node, name: str, tensors: Mapping[str, Array], weights: Weights) -> Node:
    root = PROJECTOR + name
    return linear(x, tensors[f"{root}.weight"], tensors.get(f"{root}.bias"), weights)


def stub_vision_model(width: int) -> Model:
    """The smallest graph that openvino-genai accepts as a vision model; we never run it.

    genai insists on one in the directory and would load the real weights a second time.
    """
    pixels = parameter("pixel_values", [-1, 3, -1, -1], Type.f32)
    mean = opset15.reduce_mean(pixels, i64(1, 2, 3), keep_dims=True)
    row = opset15.reshape(mean, i64(-1, 1, 1), False)
    wide = opset15.broadcast(row, i64(1, 1, width), "BIDIRECTIONAL")
    return model("stub", "last_hidden_state", wide, [pixels], [])


def _activation(x: Node, name: str) -> Node:
    check_activation(name)
    if name == "quick_gelu":
        return opset15.multiply(x, opset15.sigmoid(opset15.multiply(x, real(1.702))))
    if name == "gelu":
        return opset15.gelu(x, "erf")
    if name in ("gelu_pytorch_tanh", "gelu_new"):
        return opset15.gelu(x, "tanh")
    return opset15.relu(x) if name == "relu" else x


@dataclass(frozen=True)
class _Tower:
    """CLIP's sizes and tensors; `layers` are indices of hidden states, 0 = the embeddings."""

    tensors: Mapping[str, Array]
    weights: Weights
    heads: int
    size: int
    patch: int
    eps: float
    activation: str
    layers: Sequence[int]

    @classmethod
    def read(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Array], weights: Weights
    ) -> "_Tower":
        check_tower(config)
        vision = vision_config(config)
        return cls(
            tensors=tensors,
            weights=weights,
            heads=int(vision["num_attention_heads"]),
            size=int(vision["image_size"]),
            patch=int(vision["patch_size"]),
            eps=float(vision.get("layer_norm_eps", 1e-5)),
            activation=str(vision.get("hidden_act", "quick_gelu")),
            layers=feature_layers(config),
        )

    def states(self, pixels: Node, last: int) -> list[Node]:
        """Hidden states 0..last, each (N, P + 1, Dv)."""
        x = self._norm(self._embeddings(pixels), "pre_layrnorm")
        states = [x]
        for index in range(last):
            root = f"encoder.layers.{index}."
            x = opset15.add(x, self._attention(self._norm(x, root + "layer_norm1"), root))
            x = opset15.add(x, self._mlp(self._norm(x, root + "layer_norm2"), root))
            states.append(x)
        return states

    def _tensor(self, name: str) -> Array:
        return self.tensors[VISION + name]

    def _norm(self, x: Node, name: str) -> Node:
        return layer_norm(x, self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"), self.eps)

    def _linear(self, x: Node, name: str) -> Node:
        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        return linear(x, weight, bias, self.weights)

    def _embeddings(self, pixels: Node) -> Node:
        """Patches as a convolution, CLS in front, plus positions."""
        kernel, step = self._tensor("embeddings.patch_embedding.weight"), [self.patch, self.patch]
        grid = opset15.convolution(pixels, exact(kernel), step, [0, 0], [0, 0], [1, 1])
        flat = opset15.reshape(grid, i64(0, kernel.shape[0], -1), True)
        patches = opset15.transpose(flat, i64(0, 2, 1))
        count = opset15.gather(opset15.shape_of(pixels, "i64"), i64(0), scalar(0))
        target = opset15.concat([count, i64(1, kernel.shape[0])], 0)
        first = self._tensor("embeddings.class_embedding").reshape(1, 1, -1)
        tokens = opset15.concat([opset15.broadcast(exact(first), target), patches], 1)
        positions = self._tensor("embeddings.position_embedding.weight")
        return opset15.add(tokens, exact(positions[None]))

    def _attention(self, x: Node, root: str) -> Node:
        width = self._tensor(f"{root}self_attn.q_proj.weight").shape[0]
        head = width // self.heads

        def heads(name: str) -> Node:
            y = self._linear(x, f"{root}self_attn.{name}")
            split = opset15.reshape(y, i64(0, 0, self.heads, head), True)
            return opset15.transpose(split, i64(0, 2, 1, 3))

        mixed = opset15.scaled_dot_product_attention(
            heads("q_proj"), heads("k_proj"), heads("v_proj")
        )
        joined = opset15.reshape(opset15.transpose(mixed, i64(0, 2, 1, 3)), i64(0, 0, width), True)
        return self._linear(joined, f"{root}self_attn.out_proj")

    def _mlp(self, x: Node, root: str) -> Node:
        inner = _activation(self._linear(x, f"{root}mlp.fc1"), self.activation)
        return self._linear(inner, f"{root}mlp.fc2")
