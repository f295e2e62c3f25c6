"""The inverse of `assemble`: from a trained checkpoint to the small parts that are committed.

Used by `zoo/` once the training is done:

    from neva.nano.pack import pack
    pack(run / "final", run / "adapter")       # writes src/neva/nano/weights/

It proves itself: the parts are put together again and compared with the checkpoint. What is there
already and holds the checkpoint's tensor bit for bit stays as it is stored: rounded again to eight
bits it would be other bytes, and the repository's history would grow for nothing.
"""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import CARRIED, written_aside
from neva.model.keys import BODY, PROJECTOR, VISION, disk_name
from neva.model.weights import TensorFiles, read_entries, read_weights, sha256_file
from neva.nano.assemble import EXTRA_ROWS, assemble, sha256_tensors
from neva.nano.base import PACKAGE, BaseModel, check_base, find_base
from neva.nano.manifest import SMALL, TENSORS, WEIGHTS, Manifest
from neva.nano.narrow import SCALE, Widened, narrowed

Array = NDArray[Any]
NAME = "neva-nano"
TOLERANCE = 2.0**-6
"""Of the largest weight: eight bits round by 2**-8 of it, and training merges in bfloat16."""


def pack(
    checkpoint: Path,
    adapter: Path | None,
    out: Path = WEIGHTS,
    name: str = NAME,
    base_file: Path | None = None,
) -> Manifest:
    """Write the parts of the default model to `out` (replaced if it is there).

    `checkpoint`: the trained LLaVA directory, composed from SmolLM2 with the chatml template, its
    LM either merged with the adapter or still the base. `adapter`: peft's directory
    (adapter_config.json, adapter_model.safetensors), plain LoRA; None if the LM was not trained.
    `base_file`: the base LM's GGUF file, that of the installed package if None.
    CheckpointError if parts and checkpoint do not give the same model.
    """
    opened = Checkpoint.open(checkpoint)
    if base_file is None:
        base_file = find_base()
        check_base(base_file)
    base = BaseModel(base_file)
    _check_tokenizer(opened, base)
    tensors, original = read_tensors(opened), base.tensors()
    lora, scale = ({}, 1.0) if adapter is None else _read_adapter(adapter)
    rows = tensors[f"{BODY}embed_tokens.weight"][len(original["embed_tokens.weight"]) :]
    groups = _grouped({**tensors, **lora, EXTRA_ROWS: rows})
    fresh = out.with_name(f".{out.name}-fresh")
    with written_aside(fresh) as folder, TemporaryDirectory() as scratch:
        for target, group in groups.items():
            kept = _kept(out, group)
            changed = {name: group[name] for name in group if name not in kept}
            save_file({**narrowed(changed), **kept}, folder / target)
        _copy_small(opened.path, folder / SMALL)
        whole = Path(scratch)
        draft = Manifest(
            name=name,
            base_package=f"{PACKAGE}=={version(PACKAGE)}",
            base_sha256=sha256_file(base_file),
            scale=scale,
            files=_hashes(folder),
            assembled="",
            tokenizer="",
        )
        assemble(whole, folder, draft, base_file)
        _compare(read_weights(whole), tensors, original, lora)
        manifest = replace(
            draft,
            assembled=sha256_tensors(read_weights(whole)),
            tokenizer=sha256_file(whole / "tokenizer.json"),
        )
        manifest.write(folder)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return manifest


def _hashes(folder: Path) -> dict[str, str]:
    """Path within the folder -> sha256."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}


def _kept(parts: Path, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """What the files in ``parts`` store of those tensors that it widens to, bit for bit; by stored
    name."""
    files = sorted(parts.glob("*.safetensors"))
    stored = TensorFiles({one.name: one for file in files for one in read_entries(file)})
    wide = Widened(stored)
    same = [name for name in wide if name in tensors and np.array_equal(wide[name], tensors[name])]
    names = [one for name in same for one in (name, name + SCALE) if one in stored]
    return {name: np.ascontiguousarray(stored[name]) for name in names}


def _grouped(tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """File -> its tensors; files of an adapter that has none of theirs are empty."""
    groups: dict[str, dict[str, Array]] = {file: {} for file in TENSORS}
    for name, value in tensors.items():
        part = _part(name)
        if part:
            groups[f"{part}.safetensors"][name] = value
    return groups


def _part(name: str) -> str:
    """The part that holds a tensor; "" if it is the base LM's own."""
    if name.startswith(VISION):
        return "vision_tower"
    if name.startswith(PROJECTOR):
        return "projector"
    if name == EXTRA_ROWS or name.endswith(".lora_A"):
        return "adapter_a"
    if name.endswith(".lora_B"):
        return "adapter_mlp_b" if ".mlp." in name else "adapter_attention_b"
    return ""


def _copy_small(source: Path, target: Path) -> None:
    """Configuration, processor, template and neva.json; the tokenizer comes from the base."""
    target.mkdir()
    for name in (*CARRIED, "neva.json"):
        if name != "tokenizer.json" and (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _read_adapter(adapter: Path) -> tuple[dict[str, Array], float]:
    """({"layers.0.mlp.up_proj.lora_A": (rank, in), ...}, alpha / rank) of peft's directory."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{adapter}: not a peft adapter's directory ({error})") from error
    unusual = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save")
    odd = [key for key in unusual if config.get(key)]
    if odd or config.get("bias", "none") != "none":
        raise CheckpointError(f"{adapter}: only plain LoRA can be packed, not {odd or 'bias'}")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    entries = {entry.name: entry for entry in read_entries(adapter / "adapter_model.safetensors")}
    found: dict[str, Array] = {}
    for stored, value in TensorFiles(entries).items():
        name = disk_name(stored.removeprefix("base_model.model."))
        stem, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind not in ("lora_A", "lora_B") or not stem.startswith(BODY):
            raise CheckpointError(f"{adapter}: {stored} is not a LoRA tensor of the language model")
        found[f"{stem.removeprefix(BODY)}.{kind}"] = value
    return found, scale


def _check_tokenizer(opened: Checkpoint, base: BaseModel) -> None:
    """The tokenizer must be the one that `assemble` makes from the base."""
    ours, theirs = base.tokenizer(image=True), opened.tokenizer
    if ours.get_vocab(True) != theirs.get_vocab(True):
        raise CheckpointError(
            f"{opened.path}: its tokenizer is not SmolLM2's with <image> as the last token"
        )


def _compare(
    whole: Mapping[str, Array],
    trained: Mapping[str, Array],
    original: Mapping[str, Array],
    lora: Mapping[str, Array],
) -> None:
    """CheckpointError unless `whole` (from the parts) is the trained checkpoint, rounding aside.

    Adapted matrices may be the base's in `trained`, if the adapter was not merged there.
    """
    if set(whole) != set(trained):
        name = sorted(set(whole) ^ set(trained))[0]
        raise CheckpointError(f"the parts and the checkpoint differ in their tensors, e.g. {name}")
    for name, value in whole.items():
        ours, theirs = value.astype(np.float32), trained[name].astype(np.float32)
        inner = name.removeprefix(BODY)
        adapted = f"{inner.removesuffix('.weight')}.lora_A" in lora
        if adapted and np.array_equal(theirs, original[inner].astype(np.float32)):
            continue
        error = np.abs(ours - theirs).max()
        if error > TOLERANCE * np.abs(theirs).max():
            raise CheckpointError(
                f"{name}: base and adapter give another value than the checkpoint (by {error:.3g}):"
                " the adapter does not belong to it, or more than the adapter was trained"
            )
