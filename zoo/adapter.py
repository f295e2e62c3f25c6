"""The committed version taken apart again, for a stage 2 that goes on from it.

    python -m zoo.adapter      # writes zoo/work/adapter and zoo/work/pretrain/final
    python -m zoo.rounds --adapter zoo/work/adapter

The package keeps the adapter's matrices under short names (`neva.nano.pack`); peft wants its own
names and a configuration. The checkpoint is the default model's with the base LM's own weights.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from neva.model.adapter import ADAPTER
from neva.model.arrays import as_tensor
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import carry_files, written_aside
from neva.model.keys import BODY as ON_DISK
from neva.model.weights import write_tensors
from neva.nano.assemble import default_checkpoint, read_parts
from neva.nano.base import BaseModel, find_base
from neva.nano.manifest import WEIGHTS, read_manifest

BODY = "model.language_model."


def peft_name(short: str) -> str:
    """``layers.0.mlp.up_proj.lora_A`` as peft names it in a file."""
    return f"base_model.model.{BODY}{short}.weight"


def shape(parts: dict[str, Tensor], scale: float) -> LoraConfig:
    """Rank, alpha and layers of the matrices."""
    downs = [name for name in parts if name.endswith(".lora_A")]
    ranks = {parts[name].shape[0] for name in downs}
    if len(ranks) != 1:
        raise ValueError(f"an adapter of one rank is wanted, not of {sorted(ranks)}")
    rank = ranks.pop()
    layers = [BODY + name.removesuffix(".lora_A") for name in downs]
    return LoraConfig(r=rank, lora_alpha=round(scale * rank), target_modules=layers)


def build(out: Path, weights: Path = WEIGHTS) -> LoraConfig:
    """Write the peft directory ``out``."""
    stored = read_parts(weights)
    parts = {name: as_tensor(stored[name]) for name in stored if ".lora_" in name}
    config = shape(parts, read_manifest(weights).scale)
    out.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(out))
    save_file({peft_name(name): tensor for name, tensor in parts.items()}, out / ADAPTER)
    return config


def unmerged(out: Path, base_file: Path | None = None) -> None:
    """Write the default model to ``out`` as it is without its adapter, as stage 1 left it."""
    whole = default_checkpoint()
    tensors = dict(read_tensors(Checkpoint.open(whole)))
    base = BaseModel(base_file or find_base()).tensors()
    adapted = {name.removesuffix(".lora_A") for name in read_parts(WEIGHTS)} & {
        name.removesuffix(".weight") for name in base
    }
    tensors |= {f"{ON_DISK}{stem}.weight": base[f"{stem}.weight"] for stem in adapted}
    with written_aside(out) as folder:
        carry_files(whole, folder)
        shutil.copyfile(whole / "neva.json", folder / "neva.json")
        write_tensors(folder, tensors)


def main(argv: list[str] | None = None) -> int:
    """Write the committed adapter as peft's directory, and the checkpoint it belongs to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    o = parser.parse_args(argv)
    out = o.work / "adapter"
    config = build(out)
    print(f"{out}: rank {config.r}, alpha {config.lora_alpha}")
    start = o.work / "pretrain" / "final"
    if not start.exists():
        unmerged(start)
    print(f"{start}: the base LM behind the committed eyes and projector")
    return 0


if __name__ == "__main__":
    sys.exit(main())
