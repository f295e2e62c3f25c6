"""A double of the few names of TensorRT-LLM that our plugin uses, so that its code can be run.

It proves nothing about TensorRT-LLM: signatures and contracts are those that the plugin's
`registration.py` says were read, written down anew. The language model is transformers' own.
"""

import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM as TheirLanguageModel


class Placement(Enum):
    BEFORE_TEXT = 0
    AFTER_TEXT = 1


@dataclass(frozen=True)
class Metadata:
    placeholder_map: dict[str, str] = field(default_factory=dict)
    placeholder_placement: Placement = Placement.AFTER_TEXT
    placeholders_separator: str = "\n"


class Processor(ABC):
    """BaseMultimodalInputProcessor of 1.2: it is called itself."""

    def __init__(
        self, model_path: str, config: Any, tokenizer: Any, trust_remote_code: bool = True
    ) -> None:
        super().__init__()
        self._model_path, self._config, self._tokenizer = model_path, config, tokenizer

    processor = property(abstractmethod(lambda self: None))
    tokenizer = property(abstractmethod(lambda self: None))
    config = property(abstractmethod(lambda self: None))
    dtype = property(abstractmethod(lambda self: None))

    @abstractmethod
    def __call__(self, inputs: Any, sampling_params: Any) -> Any: ...


class LaterProcessor(Processor):
    """The same of later versions, which call a method for texts."""

    def __call__(self, inputs: Any, sampling_params: Any) -> Any:
        return self.call_with_text_prompt(inputs, sampling_params)

    @abstractmethod
    def call_with_text_prompt(self, inputs: Any, sampling_params: Any) -> Any: ...


class Builder(ABC):
    """BaseMultimodalDummyInputsBuilder of 1.2."""

    def __init__(self) -> None:
        super().__init__()
        self.image_max_dim = 16384

    @property
    @abstractmethod
    def model_path(self) -> str: ...


class LaterBuilder(ABC):
    """The same of later versions; the server asks it how pictures are to be opened."""

    @property
    @abstractmethod
    def model_path(self) -> str: ...

    def get_preferred_media_io_kwargs(self) -> dict[str, Any]:
        return {}


class LanguageModel(nn.Module):
    """Packed tokens in, logits out, weights by their names in a checkpoint of its own."""

    def __init__(self, model_config: Any) -> None:
        super().__init__()
        self.config = model_config.pretrained_config
        model_config.extra_attrs["attn_layers"] = self.config.num_hidden_layers
        self.dtype = self.config.torch_dtype
        whole = TheirLanguageModel.from_config(self.config, dtype=self.dtype).eval()
        self.model, self.lm_head = whole.model, whole.lm_head
        self.whole = (whole,)  # not a module's child: the names are those of model and lm_head
        self.vocab_size_padded = self.config.vocab_size

    def infer_max_seq_len(self) -> int:
        return int(self.config.max_position_embeddings)

    def load_weights(self, weights: Any, weight_mapper: Any = None) -> None:
        if self.config.tie_word_embeddings:
            weights = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
        self.load_state_dict(weights, strict=True)

    def forward(
        self,
        attn_metadata: Any,
        input_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        return_context_logits: bool = False,
    ) -> Any:
        assert (input_ids is None) != (inputs_embeds is None)
        packed = input_ids if inputs_embeds is None else inputs_embeds
        name = "input_ids" if inputs_embeds is None else "inputs_embeds"
        parts = packed.split(attn_metadata.lengths)
        return torch.cat([self.whole[0](**{name: one[None]}).logits[0] for one in parts])


def fuse_input_embeds(
    embedding_layer: Any, input_ids: Any, mm_embeds: Any, mm_token_ids: Any = None, **kwargs: Any
) -> Any:
    if not mm_embeds:
        return input_ids, None
    features, place = torch.cat(mm_embeds), input_ids >= embedding_layer.num_embeddings
    assert len(features) == int(place.sum())
    embeds = embedding_layer(input_ids.where(~place, 0))
    embeds[place] = features.to(embeds.dtype)
    return None, embeds


def install(patch: pytest.MonkeyPatch, later: bool) -> SimpleNamespace:
    """Put the double in the place of tensorrt_llm; what is registered is in the result."""
    seen = SimpleNamespace(models={}, encoders={}, processors={}, placeholders={})

    def register_auto_model(name: str) -> Any:
        return lambda cls: seen.models.setdefault(name, cls)

    def register_vision_encoder(encoder: Any, vlm_base_model: Any = None) -> Any:
        def wrapper(cls: Any) -> Any:
            assert cls in seen.models.values(), "register_auto_model comes first"
            seen.encoders[cls] = encoder
            return cls

        return wrapper

    def register_input_processor(cls: Any, model_type: str, placeholder_metadata: Any) -> Any:
        def wrapper(model: Any) -> Any:
            seen.processors[model] = cls
            seen.placeholders[model_type] = placeholder_metadata
            return model

        return wrapper

    modules: dict[str, dict[str, Any]] = {
        "tensorrt_llm": {},
        "tensorrt_llm._torch": {},
        "tensorrt_llm._torch.models": {},
        "tensorrt_llm._torch.models.modeling_auto": {
            "AutoModelForCausalLM": SimpleNamespace(from_config=LanguageModel),
        },
        "tensorrt_llm._torch.models.modeling_multimodal_utils": {
            "find_input_mm_embeds": lambda mm_embeds, multimodal_params: mm_embeds,
            "fuse_input_embeds": fuse_input_embeds,
            "get_multimodal_embeddings": lambda encoder_forward_fn, multimodal_params: (
                encoder_forward_fn(multimodal_params)
            ),
        },
        "tensorrt_llm._torch.models.modeling_utils": {
            "register_auto_model": register_auto_model,
            "register_vision_encoder": register_vision_encoder,
        },
        "tensorrt_llm.inputs": {
            "BaseMultimodalDummyInputsBuilder": LaterBuilder if later else Builder,
            "BaseMultimodalInputProcessor": LaterProcessor if later else Processor,
            "MultimodalPlaceholderMetadata": Metadata,
            "MultimodalPlaceholderPlacement": Placement,
            "register_input_processor": register_input_processor,
        },
    }
    for name, contents in modules.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        patch.setitem(sys.modules, name, module)
    return seen
