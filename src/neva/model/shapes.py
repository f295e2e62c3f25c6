"""The names and shapes that a `config.json` implies, without torch: what a checkpoint must hold.

One function per family of language model; a family that is not here is not checked beyond its
vision tower and projector. The numbers in DEFAULTS are those of the families' configuration
classes in transformers, because older checkpoints leave them out of `config.json`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neva.errors import CheckpointError
from neva.model.keys import BODY, HEAD, PROJECTOR, VISION

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Config = Mapping[str, Any]

_LLAMA_LIKE: Config = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}

DEFAULTS: Mapping[str, Config] = {
    "llama": _LLAMA_LIKE,
    "mistral": {
        **_LLAMA_LIKE,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 4096 * 32,
    },
    "qwen2": {
        **_LLAMA_LIKE,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
    },
    "nemotron": {
        **_LLAMA_LIKE,
        "vocab_size": 256000,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_attention_heads": 48,
        "max_position_embeddings": 4096,
    },
    "gpt_neox": {
        "vocab_size": 50432,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "max_position_embeddings": 2048,
    },
    "gpt2": {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
    "clip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "num_channels": 3,
    },
}

# LlavaConfig's own vision tower, CLIP ViT-L/14-336, where config.json has no vision_config at all.
NO_VISION: Config = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}

_MOST_LAYERS = 10_000  # the deepest models have hundreds

# The same numbers by the names that GPT-2 gives them.
_GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "intermediate_size": "n_inner",
}


def text_config(config: Config) -> Config:
    """The language model's part of `config.json`, with its family's defaults filled in."""
    text = config.get("text_config") or {}
    return _filled(text, text.get("model_type", "llama"))


def vision_config(config: Config) -> Config:
    """The vision tower's part of `config.json`, with the defaults of its class filled in."""
    vision = config.get("vision_config") or NO_VISION
    return _filled(vision, vision.get("model_type", "clip_vision_model"))


def feature_layers(config: Config) -> list[int]:
    """Which of CLIP's hidden states the projector reads side by side; 0 are the embeddings."""
    depth = vision_config(config)["num_hidden_layers"]
    return counted_layers(config.get("vision_feature_layer", -2), depth)


def counted_layers(wanted: int | Sequence[int], depth: int) -> list[int]:
    """One layer or several of a tower of `depth`, negative ones from its end, all from 0."""
    layers = [wanted] if isinstance(wanted, int) else wanted
    return [layer + depth + 1 if layer < 0 else layer for layer in layers]


def expected_shapes(config: Config) -> Shapes:
    """Every tensor that a checkpoint with this `config.json` must hold: disk name -> shape."""
    text, vision = text_config(config), vision_config(config)
    shapes: Shapes = {}
    if vision.get("model_type", "clip_vision_model") == "clip_vision_model":
        shapes |= {VISION + name: shape for name, shape in _clip(vision).items()}
    shapes |= {PROJECTOR + name: shape for name, shape in _projector(config).items()}
    family = text.get("model_type", "llama")
    if family in _FAMILIES:
        shapes |= {BODY + name: shape for name, shape in _FAMILIES[family](text).items()}
        if not says_tied(config):
            shapes[HEAD] = (text["vocab_size"], text["hidden_size"])
    return shapes


def says_tied(config: Config) -> bool:
    """Whether `config.json` says in either place that the head is the word embedding."""
    text = config.get("text_config") or {}
    return bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings"))


def knows_language(config: Config) -> bool:
    """Whether `expected_shapes` covers the language model, or lists the other parts only."""
    return text_config(config)["model_type"] in _FAMILIES


def _filled(config: Config, family: str) -> Config:
    full = dict(DEFAULTS.get(family, {}))
    full.update({name: value for name, value in config.items() if value is not None})
    full["model_type"] = family
    if family == "gpt2":
        for common, own in _GPT2_NAMES.items():
            if own in full:
                full[common] = full[own]
        full.setdefault("intermediate_size", 4 * full["hidden_size"])
    return full


def _layers(c: Config) -> range:
    """The layers' numbers; CheckpointError for so many that their names alone fill the memory."""
    depth: int = c["num_hidden_layers"]
    if depth > _MOST_LAYERS:
        raise CheckpointError(
            f"config.json: the {c['model_type']} has {depth} layers by num_hidden_layers, and neva "
            f"takes at most {_MOST_LAYERS}; copy it again."
        )
    return range(depth)


def _linear(name: str, out: int, into: int, bias: bool) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out, into)}
    if bias:
        shapes[f"{name}.bias"] = (out,)
    return shapes


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _projector(config: Config) -> Shapes:
    into = vision_config(config)["hidden_size"] * len(feature_layers(config))
    width, bias = text_config(config)["hidden_size"], config.get("multimodal_projector_bias", True)
    return _linear("linear_1", width, into, bias) | _linear("linear_2", width, width, bias)


def _clip(c: Config) -> Shapes:
    width, inner, patch = c["hidden_size"], c["intermediate_size"], c["patch_size"]
    positions = (c["image_size"] // patch) ** 2 + 1
    shapes: Shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, c["num_channels"], patch, patch),
        "embeddings.position_embedding.weight": (positions, width),
        **_norm("pre_layrnorm", width),
        **_norm("post_layernorm", width),
    }
    for i in _layers(c):
        layer = f"encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", width, width, True)
        shapes |= _linear(f"{layer}.mlp.fc1", inner, width, True)
        shapes |= _linear(f"{layer}.mlp.fc2", width, inner, True)
        shapes |= _norm(f"{layer}.layer_norm1", width) | _norm(f"{layer}.layer_norm2", width)
    return shapes


def _llama_like(c: Config) -> Shapes:
    """llama, mistral, qwen2 and nemotron: the same attention, other biases, norms and MLPs."""
    family, width, inner = c["model_type"], c["hidden_size"], c["intermediate_size"]
    heads = c["num_attention_heads"]
    size = c.get("head_dim") or width // heads
    shared = (c.get("num_key_value_heads") or heads) * size
    biased_in = c.get("attention_bias", False) or family == "qwen2"
    biased_out = c.get("attention_bias", False) and family != "qwen2"
    gated = family != "nemotron"
    shapes: Shapes = {"embed_tokens.weight": (c["vocab_size"], width)}
    norms = ["norm"]
    for i in _layers(c):
        layer = f"layers.{i}"
        shapes |= _linear(f"{layer}.self_attn.q_proj", heads * size, width, biased_in)
        shapes |= _linear(f"{layer}.self_attn.k_proj", shared, width, biased_in)
        shapes |= _linear(f"{layer}.self_attn.v_proj", shared, width, biased_in)
        shapes |= _linear(f"{layer}.self_attn.o_proj", width, heads * size, biased_out)
        for name in ("gate_proj", "up_proj") if gated else ("up_proj",):
            shapes |= _linear(f"{layer}.mlp.{name}", inner, width, c.get("mlp_bias", False))
        shapes |= _linear(f"{layer}.mlp.down_proj", width, inner, c.get("mlp_bias", False))
        norms += [f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
    for name in norms:
        shapes |= {f"{name}.weight": (width,)} if gated else _norm(name, width)
    return shapes


def _gpt_neox(c: Config) -> Shapes:
    width, inner = c["hidden_size"], c["intermediate_size"]
    bias = c.get("attention_bias", True)
    shapes: Shapes = {"embed_in.weight": (c["vocab_size"], width)} | _norm(
        "final_layer_norm", width
    )
    for i in _layers(c):
        layer = f"layers.{i}"
        shapes |= _linear(f"{layer}.attention.query_key_value", 3 * width, width, bias)
        shapes |= _linear(f"{layer}.attention.dense", width, width, bias)
        shapes |= _linear(f"{layer}.mlp.dense_h_to_4h", inner, width, True)
        shapes |= _linear(f"{layer}.mlp.dense_4h_to_h", width, inner, True)
        shapes |= _norm(f"{layer}.input_layernorm", width)
        shapes |= _norm(f"{layer}.post_attention_layernorm", width)
    return shapes


def _gpt2(c: Config) -> Shapes:
    """GPT-2 keeps its weights transposed (Conv1D): (in, out)."""
    width, inner = c["hidden_size"], c["intermediate_size"]
    shapes: Shapes = {
        "wte.weight": (c["vocab_size"], width),
        "wpe.weight": (c["max_position_embeddings"], width),
    } | _norm("ln_f", width)
    for i in _layers(c):
        for name, into, out in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            shapes |= {f"h.{i}.{name}.weight": (into, out), f"h.{i}.{name}.bias": (out,)}
        shapes |= _norm(f"h.{i}.ln_1", width) | _norm(f"h.{i}.ln_2", width)
    return shapes


_FAMILIES: Mapping[str, Callable[[Config], Shapes]] = {
    "llama": _llama_like,
    "mistral": _llama_like,
    "qwen2": _llama_like,
    "nemotron": _llama_like,
    "gpt_neox": _gpt_neox,
    "gpt2": _gpt2,
}
