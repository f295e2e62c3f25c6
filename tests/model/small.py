"""Small random models on disk, as Hugging Face saves them: a CLIP and one LM of each family."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    NemotronConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

VOCABULARY = 300
WORDS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
}


def ropes(theta: float, **more: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


# RoPE's numbers are not the defaults, so that a reader who loses them is found out.
LANGUAGES: dict[str, Any] = {
    "llama": LlamaConfig(**WORDS, **HEADS, **COMMON, **ropes(5e3), tie_word_embeddings=True),
    "nemotron": NemotronConfig(**WORDS, **HEADS, **COMMON, **ropes(5e3, partial_rotary_factor=0.5)),
    "mistral": MistralConfig(**WORDS, **HEADS, **COMMON, **ropes(5e3)),
    "qwen2": Qwen2Config(**WORDS, **HEADS, **COMMON, **ropes(5e3)),
    "gpt_neox": GPTNeoXConfig(
        **WORDS, num_attention_heads=4, **COMMON, **ropes(5e3, partial_rotary_factor=0.5)
    ),
    "gpt2": GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        vocab_size=VOCABULARY,
        bos_token_id=256,
        eos_token_id=257,
    ),
}


def write_language(folder: Path, family: str, **changes: Any) -> Path:
    """A causal LM with a byte-level tokenizer of 258 tokens; gpt2 and llama tie their heads."""
    torch.manual_seed(1)
    config = type(LANGUAGES[family]).from_dict({**LANGUAGES[family].to_dict(), **changes})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too, lest a lost one go unseen
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>")


def write_clip(folder: Path) -> Path:
    """A whole CLIP: 16-pixel images, 4 patches, 3 vision layers."""
    torch.manual_seed(2)
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    text = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=50,
        max_position_embeddings=8,
    )
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder
