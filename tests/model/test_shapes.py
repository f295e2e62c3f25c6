"""What we expect a checkpoint to hold is what transformers' own model holds."""

from typing import Any

import pytest
import torch
from small import LANGUAGES
from transformers import LlavaConfig, LlavaForConditionalGeneration

from neva.model import Checkpoint
from neva.model.keys import HEAD, disk_name, memory_names
from neva.model.load import load_model
from neva.model.shapes import DEFAULTS, expected_shapes, knows_language

# What a family's configuration may change in the names and shapes of its tensors.
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "head_dim": 48, "num_key_value_heads": 4},
    "nemotron": {"attention_bias": True, "mlp_bias": True, "head_dim": 48},
    "mistral": {"head_dim": 48, "num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "gpt_neox": {"attention_bias": False},
    "gpt2": {"n_inner": 100},
}


def theirs(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names on our disk and shapes of the model that transformers builds, without its memory."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig(**config))
    tied = model.config.tie_word_embeddings
    shapes = {disk_name(name): tuple(t.shape) for name, t in model.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if not (tied and name == HEAD)}


@pytest.mark.parametrize("family", LANGUAGES)
@pytest.mark.parametrize("variant", [False, True])
def test_expected_shapes_are_transformers(family: str, variant: bool) -> None:
    """All sizes left out of config.json but a few, so that our defaults are theirs too."""
    text: dict[str, Any] = {"model_type": family, "tie_word_embeddings": False}
    text |= VARIANTS[family] if variant else {}
    text |= {"num_key_value_heads": 8} if family == "nemotron" else {}  # it has no default
    text["n_layer" if family == "gpt2" else "num_hidden_layers"] = 2  # building takes time
    config = {"model_type": "llava", "text_config": text}
    assert expected_shapes(config) == theirs(config)


@pytest.mark.parametrize("family", LANGUAGES)
def test_default_depth_and_context_are_transformers(family: str) -> None:
    default = type(LANGUAGES[family])()
    assert DEFAULTS[family].get("num_hidden_layers", 12) == default.num_hidden_layers
    for ours in ("max_position_embeddings", "n_positions"):
        if ours in DEFAULTS[family]:
            assert DEFAULTS[family][ours] == getattr(default, ours)


def test_options_of_the_projector_and_ties_are_seen() -> None:
    text = {"model_type": "llama", "num_hidden_layers": 1, "tie_word_embeddings": True}
    config = {
        "text_config": text,
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 4},
        "vision_feature_layer": [-2, -3],
        "multimodal_projector_bias": False,
    }
    shapes = expected_shapes(config)
    assert HEAD not in shapes and shapes == theirs(config)


def test_a_config_without_a_vision_tower_means_the_large_one() -> None:
    config = {"text_config": {"model_type": "llama", "num_hidden_layers": 1}}
    assert expected_shapes(config) == theirs(config)


def test_an_unknown_language_model_is_checked_in_its_other_parts() -> None:
    config = {"text_config": {"model_type": "phi", "hidden_size": 8, "vocab_size": 5}}
    assert not knows_language(config)
    assert {name.split(".")[0] for name in expected_shapes(config)} == {
        "vision_tower",
        "multi_modal_projector",
    }


def test_names_go_to_memory_and_back(composed: dict[str, Checkpoint]) -> None:
    for checkpoint in composed.values():
        names = list(load_model(checkpoint).state_dict())
        memory = memory_names(names)
        assert sorted(memory.values()) == sorted(names)
        assert set(expected_shapes(checkpoint.config)) <= set(memory)
        assert all(disk_name(disk) == disk for disk in memory)
