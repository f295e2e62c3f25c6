"""The files by which other programs make a checkpoint's inputs, written literally.

transformers 5 saves `processor_config.json` only and names its tokenizer classes anew, which
engines and transformers 4.57 cannot read; so these files are written here and not by its classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neva.model.files import write_json
from neva.model.provenance import Aspect
from neva.prompts import Template, jinja_template

IMAGE_TOKEN = "<image>"
BICUBIC = 3  # PIL's number


@dataclass(frozen=True)
class ProcessorFacts:
    """What the files say."""

    image_size: int
    patch_size: int
    mean: Sequence[float]
    std: Sequence[float]
    aspect: Aspect
    context: int
    special: Mapping[str, str]  # "eos_token" -> its text
    eos_ids: Sequence[int]
    image_token_id: int


def write_processor(
    folder: Path, facts: ProcessorFacts, tokenizer: Tokenizer, template: Template
) -> None:
    """Write tokenizer, image processor, processor, chat template and generation config."""
    chat = jinja_template(template, tokenizer, IMAGE_TOKEN)
    image = _image_processor(facts)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(chat, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", _tokenizer_config(facts, chat))
    write_json(folder / "preprocessor_config.json", image)
    write_json(folder / "processor_config.json", _processor_config(facts, image))
    write_json(folder / "generation_config.json", _generation_config(facts, tokenizer))


def _image_processor(facts: ProcessorFacts) -> dict[str, Any]:
    """`pad` lays the image on a square of the mean colour; `square` crops the middle."""
    pad = facts.aspect == "pad"
    size = facts.image_size
    record = {
        "image_processor_type": "LlavaImageProcessor" if pad else "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(facts.mean),
        "image_std": list(facts.std),
    }
    return record | ({"do_pad": True} if pad else {})


def _processor_config(facts: ProcessorFacts, image: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "processor_class": "LlavaProcessor",
        "image_token": IMAGE_TOKEN,
        "patch_size": facts.patch_size,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,  # the class token, which "default" leaves out again
    }


def _tokenizer_config(facts: ProcessorFacts, chat: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "LlavaProcessor",
        "model_max_length": facts.context,
        "model_input_names": ["input_ids", "attention_mask"],  # 4.57 would add token types
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {"image_token": IMAGE_TOKEN},
        "chat_template": chat,
        **facts.special,
    }


def _generation_config(facts: ProcessorFacts, tokenizer: Tokenizer) -> dict[str, Any]:
    """All ids that end an answer; the image token is for prompts and never written by the model."""
    record: dict[str, Any] = {
        "eos_token_id": list(facts.eos_ids),
        "suppress_tokens": [facts.image_token_id],
    }
    for name in ("bos_token", "pad_token"):
        if name in facts.special:
            record[f"{name}_id"] = tokenizer.token_to_id(facts.special[name])
    return record
