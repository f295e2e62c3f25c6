"""What a checkpoint says of its parts: `config.json` and the small files, from plain facts.

`compose` joins parts as they come from Hugging Face, `importing` those of other people's
checkpoints; both write the same files. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neva.model.config import readable_by_all
from neva.model.files import write_json
from neva.model.kinds import ACTIVATIONS, ProjectorKind
from neva.model.processor import ProcessorFacts, write_processor
from neva.model.provenance import Aspect
from neva.model.shapes import text_config
from neva.prompts import TEMPLATES, stop_ids


@dataclass(frozen=True)
class Words:
    """How a language model reads and ends; `special`: "eos_token" -> its text."""

    tokenizer: Tokenizer
    special: Mapping[str, str]
    eos_ids: Sequence[int]


def llava_config(
    text: Mapping[str, Any],
    vision: Mapping[str, Any],
    projector: ProjectorKind,
    layers: Sequence[int],
    image_token_id: int,
    tied: bool,
    dtype: str,
) -> dict[str, Any]:
    """`config.json` of a checkpoint of these parts."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": image_token_id,
        "image_seq_length": (vision["image_size"] // vision["patch_size"]) ** 2,
        "projector_hidden_act": ACTIVATIONS[projector],
        "multimodal_projector_bias": True,
        "vision_feature_layer": layers[0] if len(layers) == 1 else list(layers),
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": tied,
        "text_config": text,
        "vision_config": vision,
    }
    return readable_by_all(config, dtype)


def write_files(
    folder: Path,
    config: Mapping[str, Any],
    words: Words,
    colours: tuple[Sequence[float], Sequence[float]],
    template: str,
    aspect: Aspect,
) -> None:
    """Write everything but the weights and `neva.json`; `colours` are the pixels' mean and std."""
    vision = config["vision_config"]
    stops = stop_ids(TEMPLATES[template], words.tokenizer)
    facts = ProcessorFacts(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        mean=colours[0],
        std=colours[1],
        aspect=aspect,
        context=int(text_config(config)["max_position_embeddings"]),
        special=words.special,
        eos_ids=sorted({*words.eos_ids, *stops}),
        image_token_id=config["image_token_index"],
    )
    write_json(folder / "config.json", config)
    write_processor(folder, facts, words.tokenizer, TEMPLATES[template])
