"""The default model put together: base LM + adapter + vision tower + projector, without torch.

Done once, in the user's cache; the weights' sha256 must be the manifest's. The adapter is merged
in float64, so that every machine's rounding to bfloat16 gives the same bits.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from neva.cachedir import cache_dir
from neva.errors import CheckpointError
from neva.model.files import written_aside
from neva.model.keys import BODY
from neva.model.weights import TensorFiles, read_entries, read_weights, write_tensors
from neva.nano.base import BaseModel, check_base, find_base
from neva.nano.manifest import SMALL, TENSORS, WEIGHTS, Manifest, check_parts, read_manifest
from neva.nano.narrow import Widened
from neva.sealing import put_in_place, seal, whole

Array = NDArray[Any]
EXTRA_ROWS = "extra_rows"  # embedding rows behind the base vocabulary, (rows, D)


def default_checkpoint(weights: Path = WEIGHTS, base: Path | None = None) -> Path:
    """The default model as a Hugging Face LLaVA directory, made at the first call (some seconds),
    and anew where a file of it is missing or cut short.

    `base` is the base LM's GGUF file, that of the installed package if None.
    CheckpointError if the base package or a part is missing or damaged, or the result is not, bit
    for bit, what was trained.
    """
    manifest = read_manifest(weights)
    out = cache_dir() / manifest.assembled[:8] / manifest.name
    if whole(out):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as aside:
        fresh = Path(aside) / out.name
        with written_aside(fresh) as folder:
            assemble(folder, weights, manifest, base or find_base())
            found = sha256_tensors(read_weights(folder))
            if found != manifest.assembled:
                raise CheckpointError(
                    f"the default model was put together with sha256 {found[:12]}, not "
                    f"{manifest.assembled[:12]}: report this with your numpy version and CPU"
                )
            seal(folder)
        put_in_place(fresh, out)
    return out


def assemble(out: Path, weights: Path, manifest: Manifest, base_file: Path) -> None:
    """Write the checkpoint into the existing folder `out`; its hash is the caller's to check."""
    check_parts(weights, manifest)
    check_base(base_file, manifest.base_sha256)
    base = BaseModel(base_file)
    parts = read_parts(weights)
    language = merged(base.tensors(), parts, manifest.scale)
    tensors = {BODY + name: value for name, value in language.items()}
    tensors |= {name: parts[name] for name in parts if name.startswith(("vision_", "multi_"))}
    write_tensors(out, {name: tensors[name] for name in sorted(tensors)})
    for source in (weights / SMALL).iterdir():
        shutil.copyfile(source, out / source.name)
    base.tokenizer(image=True).save(str(out / "tokenizer.json"))


def sha256_tensors(tensors: Mapping[str, Array]) -> str:
    """sha256 over names, types, shapes and values, whatever the file's layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.view(np.uint8).data)
    return digest.hexdigest()


def read_parts(weights: Path) -> Widened:
    """The committed tensors by the names they are stored under."""
    entries = (entry for name in TENSORS for entry in read_entries(weights / name))
    return Widened(TensorFiles({entry.name: entry for entry in entries}))


def merged(base: Mapping[str, Array], parts: Mapping[str, Array], scale: float) -> dict[str, Array]:
    """The base's tensors (bfloat16) with the adapter added: W + scale * B A, rounded once."""
    whole = dict(base)
    for name in base:
        stem = name.removesuffix(".weight")
        if f"{stem}.lora_A" not in parts:
            continue
        down = parts[f"{stem}.lora_A"].astype(np.float64)
        up = parts[f"{stem}.lora_B"].astype(np.float64)
        value = base[name].astype(np.float64) + scale * (up @ down)
        whole[name] = value.astype(ml_dtypes.bfloat16)
    if EXTRA_ROWS in parts:
        whole["embed_tokens.weight"] = np.concatenate(
            [base["embed_tokens.weight"], parts[EXTRA_ROWS]]
        )
    return whole
