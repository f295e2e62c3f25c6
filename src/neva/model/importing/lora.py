"""LLaVA's LoRA folders: an adapter of peft's and `non_lora_trainables.bin`, put onto their base.

The sum is what peft's merge makes, computed in float32 and rounded once.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from neva.errors import CheckpointError
from neva.model.importing.folder import file_tensors
from neva.model.importing.raw import Raw, Raws, changed
from neva.model.importing.voice import language_name
from neva.model.reading import read_json

OTHERS = "non_lora_trainables.bin"
SETTINGS = "adapter_config.json"
_FILES = ("adapter_model.safetensors", "adapter_model.bin")
ADAPTERS = (OTHERS, SETTINGS, *_FILES)
_WRAP = "base_model.model."  # what peft puts before the names of the model that it wraps
_PART = re.compile(r"(.*)\.lora_([AB])(?:\.default)?\.weight")
# Settings of peft that change the sum -> what they must be.
_PLAIN: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
    "layer_replication": (None,),
}


def adapter_file(folder: Path) -> Path | None:
    """The file of an adapter's weights, if the folder is one."""
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)


def other_trained(folder: Path) -> tuple[dict[str, Raw], tuple[Path, ...]]:
    """What was trained beside the adapter, by the names of the model beneath; and its files."""
    if not (folder / OTHERS).is_file():
        raise CheckpointError(
            f"{folder}: {OTHERS} is missing, where LLaVA keeps the projector of a LoRA run; copy "
            "it from the same run."
        )
    found = file_tensors(folder / OTHERS)
    return {name.removeprefix(_WRAP): raw for name, raw in found.items()}, (folder / OTHERS,)


def merged_tensors(folder: Path, base: Raws) -> dict[str, Raw]:
    """The tensors (disk names) with the folder's adapter added to those that it adapts.

    CheckpointError for an adapter that is not plain LoRA, or not of this model.
    """
    scale = _scale(folder / SETTINGS)
    file = adapter_file(folder)
    assert file is not None
    halves: dict[str, dict[str, Raw]] = {}
    for name, raw in file_tensors(file).items():
        part = _PART.fullmatch(name.removeprefix(_WRAP))
        ours = language_name(f"{part[1]}.weight") if part else None
        if part is None or ours is None or ours not in base:
            raise CheckpointError(f"{file}: {name} adapts nothing that the language model has.")
        halves.setdefault(ours, {})[part[2]] = raw
    merged = dict(base)
    for name, pair in halves.items():
        merged[name] = _sum(file, name, base[name], pair, scale)
    return merged


def _sum(file: Path, name: str, weight: Raw, pair: Mapping[str, Raw], scale: float) -> Raw:
    """weight (out, in) + scale * B (out, r) A (r, in)."""
    if set(pair) != {"A", "B"}:
        raise CheckpointError(f"{file}: of the adapter of {name} one half is missing.")
    down, up = pair["A"], pair["B"]
    if (up.shape[0], down.shape[-1]) != weight.shape or up.shape[-1] != down.shape[0]:
        raise CheckpointError(
            f"{file}: the adapter of {name} does not fit its shape {weight.shape}; it belongs to "
            "another language model than --language."
        )

    def added(tensor: Tensor) -> Tensor:
        delta = up.read().float() @ down.read().float()
        return (tensor.float() + scale * delta).to(tensor.dtype)

    return changed(weight, weight.shape, added)


def _scale(file: Path) -> float:
    """alpha / r of a plain LoRA; CheckpointError for settings that make another sum."""
    settings: dict[str, Any] = read_json(file)
    for name, plain in _PLAIN.items():
        if settings.get(name) not in plain:
            raise CheckpointError(
                f"{file}: {name} is {settings.get(name)!r}, and neva merges plain LoRA only; merge "
                "it with peft and import the whole model."
            )
    try:
        return float(settings["lora_alpha"]) / int(settings["r"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{file}: lora_alpha and r are not two numbers.") from error
