"""LLaVA's LoRA folders: an adapter of peft's and `non_lora_trainables.bin`, put onto their base.

The sum is what peft's merge makes, computed in float32 and rounded once.
"""

import re
import reprlib
from collections.abc import Mapping
from math import isfinite
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
    # the others of peft's ("pissa", "olora", "corda", "loftq") take something from the base first
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}
# Settings that do not: what it was made from and for, where it lies, how it was trained.
_HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "target_modules",
        "task_type",
    }
)


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
    rank, alpha = _rank(folder / SETTINGS)
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
        merged[name] = _sum(file, name, base[name], pair, rank, alpha)
    return merged


def _sum(
    file: Path, name: str, weight: Raw, pair: Mapping[str, Raw], rank: int, alpha: float
) -> Raw:
    """weight (out, in) + alpha / r * B (out, r) A (r, in)."""
    if set(pair) != {"A", "B"}:
        raise CheckpointError(f"{file}: of the adapter of {name} one half is missing.")
    down, up = pair["A"], pair["B"]
    if (down.shape[1:], up.shape[:1]) != (weight.shape[1:], weight.shape[:1]):
        raise CheckpointError(
            f"{file}: the adapter of {name} does not fit its shape {weight.shape}; it belongs to "
            "another language model than --language."
        )
    if (down.shape[:1], up.shape[1:]) != ((rank,), (rank,)):
        raise CheckpointError(
            f"{file}: the adapter of {name} is not of rank {rank}, the r of {SETTINGS} beside it; "
            "copy both again."
        )

    def added(tensor: Tensor) -> Tensor:
        delta = up.read().float() @ down.read().float()
        return (tensor.float() + alpha / rank * delta).to(tensor.dtype)

    return changed(weight, weight.shape, added)


def _rank(file: Path) -> tuple[int, float]:
    """r and alpha of a plain LoRA; CheckpointError for settings that make another sum."""
    settings: dict[str, Any] = read_json(file)
    for name, value in settings.items():
        known = name in _HARMLESS or value in _PLAIN.get(name, (None, False, {}, []))
        if not known:
            raise CheckpointError(
                f"{file}: {name} is {reprlib.repr(value)}, and neva merges plain LoRA only; merge "
                "it with peft and import the whole model."
            )
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(f"{file}: no LoRA of peft's; merge it and import the whole model.")
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is int and rank > 0 and isinstance(alpha, (int, float)) and isfinite(alpha):
        return rank, float(alpha)
    raise CheckpointError(f"{file}: r and lora_alpha are not two numbers; copy it again.")
