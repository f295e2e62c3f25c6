"""The committed adapter as a peft directory, for a stage 2 that goes on from it.

    python -m zoo.adapter                 # writes zoo/work/adapter
    neva finetune ... --lora --lora-from zoo/work/adapter --lora-rank 32 --lora-alpha 64

The package keeps the adapter's matrices under short names (`neva.nano.pack`); peft wants its own
names and a configuration.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from neva.model.adapter import ADAPTER
from neva.model.arrays import as_tensor
from neva.nano.assemble import read_parts
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


def main(argv: list[str] | None = None) -> int:
    """Write the committed adapter as peft's directory."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    o = parser.parse_args(argv)
    out = o.work / "adapter"
    config = build(out)
    print(f"{out}: rank {config.r}, alpha {config.lora_alpha}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
