"""Write a trained model as a checkpoint: our names on disk, all other files as they were."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from neva.errors import CheckpointError
from neva.model.arrays import as_array
from neva.model.checkpoint import Checkpoint
from neva.model.files import written_aside
from neva.model.keys import HEAD, disk_name
from neva.model.provenance import Provenance
from neva.model.shapes import expected_shapes, knows_language
from neva.model.small_files import write_small_files
from neva.model.tied import is_tied
from neva.model.weights import SHARD_BYTES, write_tensors

# JSON's name of a dtype -> torch's; what a checkpoint may be written in.
DTYPES: Mapping[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def save_checkpoint(
    model: LlavaForConditionalGeneration,
    source: Checkpoint,
    out: Path,
    provenance: Provenance,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Checkpoint:
    """Write the model to `out`, all or nothing, and return it opened.

    Configuration, tokenizer and processor files come from `source`, the checkpoint that the model
    was loaded from; `dtype` None keeps the source's. An adapter must be merged first
    (`neva.model.adapter`). CheckpointError if `out` holds something.
    """
    name = dtype or source.dtype
    state = {disk_name(key): tensor for key, tensor in model.state_dict().items()}
    return save_tensors(state, source, out, provenance, name, shard_bytes)


def save_tensors(
    state: Mapping[str, Tensor],
    source: Checkpoint,
    out: Path,
    provenance: Provenance,
    dtype: str,
    shard_bytes: int = SHARD_BYTES,
) -> Checkpoint:
    """As `save_checkpoint`, of tensors by their disk names: all that `config.json` asks for.

    `state` may be lazy: one tensor is in memory at a time.
    """
    tied = is_tied(source.config, state)
    wanted = set(expected_shapes(source.config) if knows_language(source.config) else state)
    wanted = wanted - {HEAD} if tied else wanted | ({HEAD} & state.keys())
    missing = [key for key in wanted if key not in state]
    if missing:
        raise CheckpointError(
            f"{out}: {len(missing)} tensors are missing, first {missing[0]}; an adapter must be "
            "merged before a model is saved."
        )
    names = [key for key in state if key in wanted]
    with written_aside(out) as folder:
        write_small_files(source, folder, tied, provenance.template, dtype)
        write_tensors(folder, _Cast(state, names, DTYPES[dtype]), shard_bytes)
        provenance.write(folder)
        Checkpoint.open(folder)  # what is not whole never gets its name
    return Checkpoint.open(out)


class _Cast(Mapping[str, Any]):
    """Tensors that become arrays of the wanted dtype when they are asked for, one by one."""

    def __init__(
        self, tensors: Mapping[str, Tensor], names: Sequence[str], dtype: torch.dtype
    ) -> None:
        self.tensors, self.names, self.dtype = tensors, names, dtype

    def __getitem__(self, name: str) -> Any:
        return as_array(self.tensors[name].to(self.dtype))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
