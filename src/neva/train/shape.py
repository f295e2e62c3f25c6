"""The sizes of a CLIP + projector + GPT, enough to count parameters, memory and work without it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neva.model.shapes import feature_layers


@dataclass(frozen=True)
class Vision:
    """A CLIP vision tower. Its class token is computed, and is not handed to the projector.

    `skipped`: layers at the top whose output nobody uses; LLaVA takes the last but one.
    `read`: layers whose output the projector reads, side by side.
    """

    layers: int
    width: int
    mlp: int
    patch: int
    size: int
    skipped: int = 1
    read: int = 1

    @property
    def used(self) -> int:
        """Layers that are computed."""
        return self.layers - self.skipped

    @property
    def features(self) -> int:
        """Width of what the projector reads."""
        return self.width * self.read

    @property
    def tokens(self) -> int:
        """Image tokens: patches of one image."""
        return (self.size // self.patch) ** 2

    @property
    def parameters(self) -> int:
        """Weights of the tower: patches, positions, layers with biases, the outer norms."""
        embed = 3 * self.patch**2 * self.width + (self.tokens + 2) * self.width
        attention = 4 * (self.width**2 + self.width)
        mlp = 2 * self.width * self.mlp + self.width + self.mlp
        return embed + self.layers * (attention + mlp + 4 * self.width) + 4 * self.width


@dataclass(frozen=True)
class Language:
    """A decoder-only LM. `gated` MLPs (llama) have three matrices, the others two.

    `head`: width of one head, where it is not width / heads.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    gated: bool = True
    tied: bool = False
    head: int | None = None

    @property
    def attention_width(self) -> int:
        """All heads' queries together."""
        return self.heads * (self.head or self.width // self.heads)

    @property
    def key_width(self) -> int:
        """All heads' keys together."""
        return self.kv_heads * (self.head or self.width // self.heads)

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer's matrices; norms and biases are left out (under 0.1%)."""
        attention = 2 * self.width * (self.attention_width + self.key_width)
        return attention + (3 if self.gated else 2) * self.width * self.mlp

    @property
    def head_parameters(self) -> int:
        """Weights of the output head (or of the tied embedding)."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All weights: layers, norms, embedding and head."""
        norms = (2 * self.layers + 1) * self.width
        tables = self.head_parameters * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + norms + tables


@dataclass(frozen=True)
class Shape:
    """A whole model. `assumed`: the publisher names no shape, and this one is a guess."""

    vision: Vision
    language: Language
    projector: str = "mlp2x_gelu"
    assumed: bool = False

    @property
    def projector_parameters(self) -> int:
        """Weights of the projector, biases included."""
        dv, d = self.vision.features, self.language.width
        first = dv * d + d
        return first if self.projector == "linear" else first + d * d + d

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.vision.parameters + self.projector_parameters + self.language.parameters

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Shape":
        """The shape of a checkpoint's `config.json` (LlavaConfig)."""
        seen, said = config["vision_config"], config["text_config"]
        heads = said.get("num_attention_heads") or said["n_head"]
        width = said.get("hidden_size") or said["n_embd"]
        layers = feature_layers(config)
        return cls(
            Vision(
                seen["num_hidden_layers"],
                seen["hidden_size"],
                seen["intermediate_size"],
                seen["patch_size"],
                seen["image_size"],
                skipped=seen["num_hidden_layers"] - max(layers),
                read=len(layers),
            ),
            Language(
                layers=said.get("num_hidden_layers") or said["n_layer"],
                width=width,
                heads=heads,
                kv_heads=said.get("num_key_value_heads") or heads,
                mlp=said.get("intermediate_size") or said.get("n_inner") or 4 * width,
                vocabulary=said["vocab_size"],
                gated=said.get("model_type") in {"llama", "mistral", "qwen2", "qwen3"},
                tied=bool(said.get("tie_word_embeddings") or config.get("tie_word_embeddings")),
                head=said.get("head_dim"),
            ),
            "linear" if config.get("projector_hidden_act") in {"linear", None} else "mlp2x_gelu",
        )
