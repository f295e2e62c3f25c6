"""The model as TensorRT-LLM's PyTorch backend wants it; the only file that imports tensorrt_llm.

**Never run with TensorRT-LLM.** Every name below was looked up in the sources of
NVIDIA/TensorRT-LLM. Its repository was too large to be had whole, so files were read one by one,
each at a commit that touched it (paths in `tensorrt_llm/`):

    b35ac1b64368  _torch/models/modeling_llava_next.py (the model to go by)
    8bc4e0967b9d  _torch/models/modeling_multimodal_utils.py
    cb4c622cf5bb  _torch/models/modeling_utils.py
    01bffee125e2  _torch/models/modeling_auto.py
    065ff9e93780  _torch/models/_arch_index.py
    088aa36b0027  _torch/models/checkpoints/hf/weight_mapper.py
    008e0af8980f  _torch/model_config.py
    002f3cc3d055  inputs/registry.py      00be09f78ecf  inputs/__init__.py
    00a8667c4547  inputs/utils.py         021821a8dd30  inputs/content_format.py
    00209af149e7  commands/serve.py

They reach from 1.2, whose server calls an input processor itself, to the middle of 2026, when it
calls `call_with_text_prompt`; both are served here. `--custom_module_dirs` came with 1.2.
`_torch` is private to TensorRT-LLM: other versions may need changes.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensorrt_llm._torch.models.modeling_auto import AutoModelForCausalLM
from tensorrt_llm._torch.models.modeling_multimodal_utils import (
    find_input_mm_embeds,
    fuse_input_embeds,
    get_multimodal_embeddings,
)
from tensorrt_llm._torch.models.modeling_utils import register_auto_model, register_vision_encoder
from tensorrt_llm.inputs import (
    BaseMultimodalDummyInputsBuilder,
    BaseMultimodalInputProcessor,
    MultimodalPlaceholderMetadata,
    MultimodalPlaceholderPlacement,
    register_input_processor,
)
from torch import Tensor, nn
from transformers import AutoProcessor

from .features import ImageEncoder, load_encoder, part, served_dtype
from .prompt import PromptReader

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
}
"""Family of language model -> TensorRT-LLM's own implementation."""
ABSENT = {"attention_bias": False, "mlp_bias": False, "rope_scaling": None}
"""What configurations of some families leave out and TensorRT-LLM asks of all."""
LANGUAGE = "language_model."
SETTINGS = json.loads(Path(__file__).with_name("settings.json").read_text("utf-8"))
PLACEHOLDERS = MultimodalPlaceholderMetadata(
    placeholder_map={"image": SETTINGS["image_token"]},
    placeholder_placement=MultimodalPlaceholderPlacement.BEFORE_TEXT,
    placeholders_separator="",
)


class LlavaInputProcessor(BaseMultimodalInputProcessor, BaseMultimodalDummyInputsBuilder):
    """Requests -> token ids and pixels, in the server's process, on the CPU."""

    def __init__(
        self,
        model_path: str,
        config: Any,
        tokenizer: Any,
        trust_remote_code: bool = True,
        **kwargs: Any,
    ) -> None:
        """`tokenizer` may be transformers' own or a wrapper that has it as `tokenizer`."""
        super().__init__(model_path, config, tokenizer, trust_remote_code=False)
        self._reader = PromptReader.open(model_path, getattr(tokenizer, "tokenizer", tokenizer))
        self._tokenizer = tokenizer or self._reader.tokenizer
        self._processor = AutoProcessor.from_pretrained(model_path)
        self._dtype = served_dtype(config)
        # 1.2 measures the memory that an image takes, beginning with one of 16384 x 16384 pixels.
        self.image_max_dim = max(config.vision_config.image_size, 128)

    @property
    def processor(self) -> Any:
        return self._processor

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    @property
    def config(self) -> Any:
        return self._config

    @property
    def model_path(self) -> Any:
        return self._model_path

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def get_vocab_size(self) -> int:
        return self._reader.vocabulary

    def get_num_tokens_per_image(self, *, image: Any, **kwargs: Any) -> int:
        return self._reader.image_tokens

    def get_mm_token_ids(self) -> None:
        """None: ids beyond the vocabulary are the image's."""

    def get_mm_special_token_ids(self) -> None:
        """None: no token frames an image."""

    @torch.inference_mode()
    def call_with_text_prompt(
        self, inputs: Mapping[str, Any], sampling_params: Any
    ) -> tuple[list[int], dict[str, Any]]:
        """Ids (T,) and, with pictures, `multimodal_data`; ValueError refuses the request."""
        media = dict(inputs.get("multi_modal_data") or {})
        found = media.pop("image", None)
        if media:
            raise ValueError(f"This model sees images only, not {', '.join(sorted(media))}.")
        images = [] if found is None else found if isinstance(found, list) else [found]
        special = getattr(sampling_params, "add_special_tokens", True)
        ids = self._reader.ids(inputs["prompt"], len(images), special)
        if not images:
            return ids, {}
        pixels = self._reader.pixels(images).to(self._dtype)
        return ids, {"multimodal_data": {"image": {"pixel_values": pixels}}}

    if not hasattr(BaseMultimodalInputProcessor, "call_with_text_prompt"):  # 1.2
        __call__ = call_with_text_prompt


class LlavaEncoder(nn.Module):
    """CLIP and projector, whole on every rank."""

    def __init__(self, model_config: Any, *args: Any) -> None:
        super().__init__()
        self.pretrained_config = model_config.pretrained_config
        # Made of its weights: here tensors may be without memory (MetaInitMode).
        self.encoder: ImageEncoder | None = None

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take what is CLIP's and the projector's of a checkpoint's tensors."""
        config = self.pretrained_config
        self.encoder = load_encoder(config, weights, served_dtype(config), own_gpu())

    @torch.inference_mode()
    def forward(self, multimodal_params: Sequence[Any]) -> list[Tensor]:
        """Every request's pixels (N, 3, H, W) -> one tensor (all N * P, D), in their order."""
        if self.encoder is None:
            raise RuntimeError("The image encoder has no weights; load_format must be auto.")
        pixels = [asked.multimodal_data["image"]["pixel_values"] for asked in multimodal_params]
        device = next(self.encoder.parameters()).device
        return [self.encoder(torch.cat([one.to(device) for one in pixels])).flatten(0, 1)]


@register_vision_encoder(LlavaEncoder)
@register_auto_model("LlavaForConditionalGeneration")
@register_input_processor(
    LlavaInputProcessor, model_type="llava", placeholder_metadata=PLACEHOLDERS
)
class LlavaForTensorRT(nn.Module):
    """TensorRT-LLM's language model, fed with projected features in the place of image tokens."""

    def __init__(self, model_config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.mm_encoder = LlavaEncoder(model_config)
        language = copy.deepcopy(model_config)
        language.pretrained_config = language_config(model_config.pretrained_config)
        if hasattr(model_config, "extra_attrs"):  # attention is looked up in the outer one's
            language.extra_attrs = model_config.extra_attrs
        self.llm = AutoModelForCausalLM.from_config(language)
        self.model_config = model_config
        self.config = self.model_config.pretrained_config = self.llm.config

    @property
    def vocab_size_padded(self) -> int:
        return int(self.llm.vocab_size_padded)

    @property
    def multimodal_data_device_paths(self) -> list[str]:
        """What the engine brings to the GPU."""
        return ["image.pixel_values", "multimodal_embedding"]

    def infer_max_seq_len(self) -> int:
        return int(self.llm.infer_max_seq_len())

    def load_weights(self, weights: Mapping[str, Tensor], weight_mapper: Any = None) -> None:
        """Load both halves; `weights` are the checkpoint's tensors by their names on disk."""
        self.mm_encoder.load_weights(weights)
        self.llm.load_weights(part(weights, LANGUAGE), weight_mapper)

    @torch.inference_mode()
    def forward(
        self,
        attn_metadata: Any,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        return_context_logits: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Logits of packed requests, input_ids (T,); those that begin may bring pictures."""
        asked = kwargs.get("multimodal_params") or []
        asked = [one for one in asked[: attn_metadata.num_contexts] if has_pictures(one)]
        features: list[Tensor] = []
        if asked:
            features = get_multimodal_embeddings(self.mm_encoder.forward, asked)
            features = find_input_mm_embeds(features, asked)
        words = self.llm.model.embed_tokens
        input_ids, inputs_embeds = fuse_input_embeds(words, input_ids, features, **kwargs)
        logits: Tensor = self.llm.forward(
            attn_metadata=attn_metadata,
            input_ids=input_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_context_logits=return_context_logits,
        )
        return logits


def language_config(config: Any) -> Any:
    """The language model's configuration as its own implementation wants it."""
    text = copy.deepcopy(config.text_config)
    text.architectures = [ARCHITECTURES[text.model_type]]
    text.torch_dtype = served_dtype(config)
    for name, value in ABSENT.items():
        if not hasattr(text, name):
            setattr(text, name, value)
    return text


def own_gpu() -> torch.device:
    """This rank's."""
    return torch.device("cuda", torch.cuda.current_device())


def has_pictures(asked: Any) -> bool:
    """Whether a request has pixels, or features that an earlier chunk made of them."""
    data = asked.multimodal_data or {}
    pixels = (data.get("image") or {}).get("pixel_values")
    return pixels is not None or data.get("multimodal_embedding") is not None
