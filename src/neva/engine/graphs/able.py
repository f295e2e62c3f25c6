"""What the openvino engine's graphs compute rightly, told by `config.json` alone.

Apart from the graphs, which need OpenVINO: so that `neva serve` refuses before it listens.
"""

from collections.abc import Mapping
from typing import Any

from neva.engine.graphs.rope import frequencies
from neva.errors import CheckpointError
from neva.model.shapes import text_config, vision_config
from neva.model.window import sliding_window

FAMILIES = ("llama", "mistral", "qwen2")
ACTIVATIONS = ("gelu", "quick_gelu", "gelu_pytorch_tanh", "gelu_new", "relu", "linear")
"""Hugging Face's names of what a tower and a projector may have between two products."""


def check_config(config: Mapping[str, Any]) -> None:
    """CheckpointError for what the graphs would compute wrongly. `config`: all of config.json."""
    check_language(text_config(config))
    check_window(config)
    check_tower(config)
    check_activation(str(vision_config(config).get("hidden_act", "quick_gelu")))
    check_activation(str(config.get("projector_hidden_act", "gelu")))


def check_language(config: Mapping[str, Any]) -> None:
    """CheckpointError for a language model, by its own config, that has no graph."""
    family = config["model_type"]
    if family not in FAMILIES:
        raise CheckpointError(
            f"config.json: a {family} language model cannot run on the openvino engine "
            f"(it has {', '.join(FAMILIES)}): use `--engine torch`"
        )
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(
            f"config.json: activation {config['hidden_act']!r} of the {family} language model is "
            "not supported by the openvino engine (silu is): use `--engine torch`"
        )
    frequencies(config, head=2)  # refuses rotary scalings that it has not


def check_window(config: Mapping[str, Any]) -> None:
    """CheckpointError for a window shorter than the context. `config`: all of config.json."""
    window = sliding_window(config)
    if window and window < text_config(config)["max_position_embeddings"]:
        raise CheckpointError(
            f"config.json: sliding-window attention ({window} tokens) is not supported by the "
            "openvino engine: use `--engine torch`"
        )


def check_tower(config: Mapping[str, Any]) -> None:
    """CheckpointError for a vision tower that is no CLIP."""
    kind = (config.get("vision_config") or {}).get("model_type", "clip_vision_model")
    if kind != "clip_vision_model":
        raise CheckpointError(
            f"config.json: a {kind} vision tower cannot run on the openvino engine "
            "(clip_vision_model can): use `--engine torch`"
        )


def check_activation(name: str) -> None:
    """CheckpointError for an activation that has no graph."""
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json: activation {name!r} is not supported by the openvino engine "
            f"({', '.join(ACTIVATIONS)} are): use `--engine torch`"
        )
