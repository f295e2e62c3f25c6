"""Tiny random LLaVA checkpoints, one per family, written as the contract has them."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

from neva.model.keys import disk_name
from neva.model.weights import write_tensors

SIZE, PATCH, WIDTH = 32, 8, 64
SPECIALS = ["<unk>", "<|im_start|>", "<|im_end|>"]
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": None, "head_dim": 32},
    "qwen2": {"tie_word_embeddings": True},
}
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def byte_tokenizer(folder: Path, words: int = 0) -> int:
    """A byte-level tokenizer with ChatML's specials and <image>; returns <image>'s id.

    With `words` it has so many tokens more, of several letters, which it writes but never reads.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    rng, longer = random.Random(0), set[str]()
    while len(longer) < words:
        longer.add("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))))
    vocab = {t: index for index, t in enumerate([*SPECIALS, *letters, *sorted(longer)])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    image: int = tokenizer.token_to_id("<image>")
    return image


def write_checkpoint(
    folder: Path,
    family: str = "llama",
    seed: int = 0,
    context: int = 512,
    llava: Mapping[str, object] | None = None,
    words: int = 0,
    **changes: object,
) -> Path:
    """A random LLaVA of the family: 2 layers, width 64, CLIP 32 px with 16 patches.

    `changes` are to the language model's config, `llava` to LLaVA's own; `words`: see above.
    """
    import torch
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.auto import CONFIG_MAPPING

    folder.mkdir(parents=True, exist_ok=True)
    image = byte_tokenizer(folder, words)
    own = {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    text = CONFIG_MAPPING[family](
        vocab_size=320 + words,  # padded beyond the tokenizer's 260
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **{**own, **FAMILIES.get(family, {}), **changes},
    )
    vision = CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=PATCH,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, **(llava or {})
    )
    config.tie_word_embeddings = bool(text.tie_word_embeddings)
    config.architectures = ["LlavaForConditionalGeneration"]
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    for name, value in model.named_parameters():  # logits far apart, so that greedy has no ties
        if value.ndim > 1 and "embed" not in name:
            value.data.normal_(0, 0.15)
        elif "embed_tokens" in name:
            value.data.normal_(0, 1)
    tensors = {
        disk_name(name): value.detach().float().numpy()
        for name, value in model.state_dict().items()
        if not (text.tie_word_embeddings and "lm_head" in name)
    }
    write_tensors(folder, tensors)
    config.save_pretrained(folder)
    _write_small_files(folder)
    return folder


def _write_small_files(folder: Path) -> None:
    recipe = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    neva = {"format": 1, "stage": "composed", "template": "chatml", "aspect": "pad"}
    (folder / "neva.json").write_text(json.dumps(neva))
