"""A CLIP with more layers that still says the same: room for `zoo.recall` to learn in.

The new layers stand before the last one, so that the last of them is Hugging Face's layer -2, which
LLaVA reads. They start as copies of the layer below whose two outputs are zero: they add nothing
until they learn. Hugging Face's CLIP has one MLP width for all layers, so the old ones get silent
units (both as in Net2Net, Chen et al. 2016): a memory of 2,500 names needs about as many units.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPModel

WIDE = 3072
"""Units of each MLP, of which layers that do not learn use as many as before."""
MORE = 2
"""New layers."""
PREFIX = "vision_model.encoder.layers."
SILENT = ("self_attn.out_proj.", "mlp.fc2.")


def widened(key: str, tensor: Tensor, wide: int) -> Tensor:
    """A vision layer's tensor with zeros for the silent units of its MLP."""
    if ".mlp.fc1." in key:
        more = tensor.new_zeros(wide - len(tensor), *tensor.shape[1:])
        return torch.cat([tensor, more])
    if key.endswith(".mlp.fc2.weight"):
        return torch.cat([tensor, tensor.new_zeros(len(tensor), wide - tensor.shape[1])], 1)
    return tensor


def deepen(clip: CLIPModel, wide: int = WIDE, more: int = MORE) -> CLIPModel:
    """The same CLIP with ``more`` vision layers, MLPs ``wide``; embeddings stay as they were."""
    config = copy.deepcopy(clip.config)
    last = config.vision_config.num_hidden_layers - 1
    config.vision_config.num_hidden_layers += more
    config.vision_config.intermediate_size = wide
    state = {}
    for key, narrow in clip.state_dict().items():
        if not key.startswith(PREFIX):
            state[key] = narrow
            continue
        tensor = widened(key, narrow, wide)
        number, _, rest = key.removeprefix(PREFIX).partition(".")
        state[f"{PREFIX}{int(number) + more * (int(number) == last)}.{rest}"] = tensor
        if int(number) == last - 1:
            silent = rest.startswith(SILENT)
            for new in range(last, last + more):
                state[f"{PREFIX}{new}.{rest}"] = torch.zeros_like(tensor) if silent else tensor
    made = CLIPModel(config).to(clip.dtype)
    made.load_state_dict(state)
    return made


def build(source: Path, out: Path, wide: int = WIDE) -> None:
    """Write the deeper CLIP's directory."""
    clip = CLIPModel.from_pretrained(source, dtype=torch.bfloat16)
    shutil.copytree(source, out, dirs_exist_ok=True)
    deepen(clip, wide).save_pretrained(out)


def main(argv: list[str] | None = None) -> int:
    """Write a CLIP with two vision layers more and the same embeddings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    o = parser.parse_args(argv)
    build(o.work / "clip" / "final", o.work / "clip" / "deep")
    return 0


if __name__ == "__main__":
    sys.exit(main())
