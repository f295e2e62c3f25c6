"""Merge a saved adapter into the checkpoint that it was trained from."""

from dataclasses import replace
from pathlib import Path

import torch

from neva.model.adapter import ADAPTER, check_base, load_adapter, merge_lora
from neva.model.checkpoint import Checkpoint
from neva.model.load import load_model
from neva.model.provenance import Provenance
from neva.model.save import save_checkpoint
from neva.model.weights import sha256_file


def merge_adapter(
    source: Checkpoint, adapter: Path, out: Path, provenance: Provenance | None = None
) -> Checkpoint:
    """Write `source` with the adapter (`neva.model.adapter.save_adapter`) merged in, to `out`.

    The sum is made in float32 and written in the source's dtype. Without `provenance` the source's
    own, with both parents, stage finetuned.
    """
    check_base(adapter, source.sha256)
    model = load_model(source, dtype=torch.float32)
    load_adapter(model, adapter)
    parents = source.provenance.descent(source.sha256, sha256_file(adapter / ADAPTER))
    ours = provenance or replace(source.provenance, stage="finetuned", parents=parents)
    return save_checkpoint(merge_lora(model), source, out, ours)
