"""LLaVA's own folders: a whole model, a projector of stage 1 alone, or a LoRA adapter.

Names and defaults are those of haotian-liu/LLaVA (llava/model); see docs/importing.md for what is
taken and what is not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import Metaspace
from transformers import LlamaConfig, MistralConfig

from neva.errors import CheckpointError
from neva.model.importing.folder import (
    file_tensors,
    files_of_weights,
    folder_tensors,
    has_weights,
    local_folder,
)
from neva.model.importing.found import Found, only
from neva.model.importing.lora import ADAPTERS, adapter_file, merged_tensors, other_trained
from neva.model.importing.parts import picture_aspect, projector_kind, projector_tensors
from neva.model.importing.raw import Raw, Raws
from neva.model.importing.tower import read_tower
from neva.model.importing.voice import (
    language_config,
    language_name,
    language_tensors,
    read_voice,
)
from neva.model.keys import VISION
from neva.model.reading import CONFIG, read_json
from neva.model.rewrite import SILENT
from neva.model.source import source_name

PROJECTOR_FILE = "mm_projector.bin"
_MARK = "mm_projector."
_KINDS: Mapping[str, Any] = {
    "llava": LlamaConfig,
    "llava_llama": LlamaConfig,
    "llava_mistral": MistralConfig,
}
# (setting, what it must be, what it is there for)
_DEMANDS: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("mm_use_im_start_end", (None, False), "it sets pictures between tokens of their own"),
    ("mm_vision_select_feature", (None, "patch"), "it projects the class token too"),
    ("mm_patch_merge_type", (None, "flat"), "it lays pictures out in tiles"),
    ("mm_resampler_type", (None,), "it has a resampler behind the tower"),
    ("s2", (None, False), "it looks at several sizes of a picture"),
    ("quantization_config", (None,), "its weights are quantised"),
)
# What must be the same of a language model and of what was trained on it.
_SHARED = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_parameters",
    "hidden_act",
    "sliding_window",
    "tie_word_embeddings",
)


def is_llava(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of LLaVA's own layout."""
    return "mm_vision_tower" in config or "mm_projector_type" in config


def read_llava(source: str | Path, vision: str | None, language: str | None) -> Found:
    """What is in a folder of LLaVA's own layout; CheckpointError names what cannot be taken."""
    folder = local_folder(source, PROJECTOR_FILE, *ADAPTERS)
    config = read_json(folder / CONFIG)
    _check(folder, config)
    kind = projector_kind(folder / CONFIG, config.get("mm_projector_type"))
    text, clip = _text(folder / CONFIG, config), config.get("mm_vision_tower")
    origins: tuple[tuple[Path, ...], ...]
    notes: tuple[str, ...]
    if has_weights(folder):
        tensors = _named(folder, folder_tensors(folder))
        origins, notes = (files_of_weights(folder),), ()
        voice = read_voice(language or str(source), text)
    else:
        base = _base(folder, language)
        _check_base(folder, text, base)
        tensors, origins, notes = _beside(folder, base)
        voice = read_voice(base, text)
    inside = {name: raw for name, raw in tensors.items() if name.startswith(VISION)}
    if config.get("unfreeze_mm_vision_tower") and not inside and vision is None:
        raise CheckpointError(
            f"{folder}: it says that its CLIP was trained too (unfreeze_mm_vision_tower), and does "
            "not hold it; give the trained one by --vision DIR."
        )
    tower = read_tower(vision, clip if isinstance(clip, str) else None, inside, folder)
    projector = {
        name.removeprefix(_MARK): raw for name, raw in tensors.items() if name.startswith(_MARK)
    }
    body = {name: raw for name, raw in tensors.items() if not name.startswith((VISION, _MARK))}
    _begin_with_space(voice.tokenizer)
    return Found(
        source=folder,
        voice=voice,
        tower=tower,
        tensors=body | projector_tensors(folder, kind, projector),
        projector=kind,
        layer=int(config.get("mm_vision_select_layer", -2)),
        aspect=picture_aspect(folder / CONFIG, config.get("image_aspect_ratio")),
        made={
            "imported": "LLaVA",
            "source": source_name(source),
            "vision": source_name(tower.source),
        }
        | ({"language": source_name(language)} if language else {}),
        origins=(*origins, tower.origin),
        notes=notes,
    )


def _begin_with_space(tokenizer: Tokenizer) -> None:
    """Let text behind a picture begin as at the beginning of a text, in place.

    LLaVA tokenises what is before and behind a picture apart, so that sentencepiece sets its space
    before both. transformers 5 makes tokenizers that do so at the first text only, where the
    tokenizer is not of the "legacy" kind; the conversions for transformers do it everywhere.
    """
    marks = tokenizer.pre_tokenizer
    if isinstance(marks, Metaspace) and marks.prepend_scheme == "first":
        marks.prepend_scheme = "always"
        tokenizer.pre_tokenizer = marks


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    """CheckpointError for a model that computes something else than a LLaVA that neva holds."""
    place = folder / CONFIG
    if config.get("model_type") not in tuple(_KINDS):  # it may be a list, say
        known = ", ".join(_KINDS)
        raise CheckpointError(f"{place}: a {config.get('model_type')!r}; neva imports {known}.")
    for name, allowed, reason in _DEMANDS:
        if config.get(name) not in allowed:
            raise CheckpointError(
                f"{place}: {name} is {config[name]!r}: {reason}, which no checkpoint of neva's can "
                "say, so it is not imported."
            )
    if not isinstance(config.get("mm_vision_select_layer", -2), int):
        raise CheckpointError(f"{place}: mm_vision_select_layer is no number; copy it again.")


def _text(place: Path, config: Mapping[str, Any]) -> Any:
    """The language model's configuration, from that of LLaVA's which has everything in one."""
    kind = _KINDS[config["model_type"]]
    known = {*kind().to_dict(), "rope_theta", "rope_scaling"} - {"model_type", "architectures"}
    try:
        return kind.from_dict({name: value for name, value in config.items() if name in known})
    except Exception as error:  # of many classes, by transformers' own checks
        line = " ".join(str(error).split())
        raise CheckpointError(f"{place}: no model can be so ({line}); copy it again.") from error


def _named(folder: Path, own: Raws) -> dict[str, Raw]:
    """A whole model's tensors: LM and tower by disk names, the projector as "mm_projector.*"."""
    found: dict[str, Raw] = {}
    known: dict[str, Raw] = {}
    for name, raw in own.items():
        ours = language_name(name) or _seen(name)
        if ours in found:
            raise CheckpointError(f"{raw.place}: it is there under two names; copy it again.")
        if ours is not None:
            found[ours] = raw
        if ours is not None or name.endswith(SILENT):
            known[name] = raw
    only(folder, known, own)
    return found


def _seen(name: str) -> str | None:
    """The name of a tensor of projector or tower, however deep it was wrapped; None of another."""
    if _MARK in name:
        return _MARK + name.partition(_MARK)[2]
    _, inner, rest = name.partition("vision_tower.vision_tower.")
    if inner and not rest.endswith(SILENT):
        return VISION + rest.removeprefix("vision_model.")
    return None


def _base(folder: Path, language: str | None) -> str:
    """Where the language model comes from, that a folder without one was trained on."""
    if not (folder / PROJECTOR_FILE).is_file() and adapter_file(folder) is None:
        files_of_weights(folder)  # says that there are none
    if language is None:
        raise CheckpointError(
            f"{folder}: it holds no language model, only what was trained beside one; give the LM "
            "that it was trained with by --language: a directory or a hub name."
        )
    return language


def _check_base(folder: Path, text: Any, base: str) -> None:
    """CheckpointError unless the LM at `base` computes as the folder's `config.json` says."""
    ours, theirs = text.to_dict(), language_config(base).to_dict()
    for name in _SHARED:
        if ours.get(name) != theirs.get(name):
            raise CheckpointError(
                f"{base}: its {name} is {theirs.get(name)}, and {folder / CONFIG} says "
                f"{ours.get(name)}: it is not the language model that this was trained with."
            )


def _beside(
    folder: Path, base: str
) -> tuple[dict[str, Raw], tuple[tuple[Path, ...], ...], tuple[str, ...]]:
    """A projector, or a LoRA adapter and what was trained beside it, on the LM at `base`."""
    body, files = language_tensors(base)
    adapter = adapter_file(folder)
    if adapter is None:
        alone = _named(folder, file_tensors(folder / PROJECTOR_FILE))
        if stray := [name for name in alone if not name.startswith(_MARK)]:
            raise CheckpointError(
                f"{folder / PROJECTOR_FILE}: it holds {stray[0]} too, which no projector has; it "
                "was trained in a way that neva does not know."
            )
        return body | alone, ((folder / PROJECTOR_FILE,), files), (_trained_with(base),)
    trained, others = other_trained(folder)
    whole = merged_tensors(folder, body | _named(folder, trained))
    return whole, ((adapter, *others), files), (_trained_with(base),)


def _trained_with(base: str) -> str:
    return (
        f"nothing in the source says which language model it was trained with; {base} has the "
        "right shapes, and only its maker knows whether it is the right one"
    )
