"""Write a checkpoint anew under our names, without torch: the mender of foreign namings."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import written_aside
from neva.model.keys import HEAD
from neva.model.shapes import expected_shapes, knows_language
from neva.model.small_files import write_small_files
from neva.model.tied import is_tied
from neva.model.weights import SHARD_BYTES, TensorFiles, sha256_weights, write_tensors

_log = logging.getLogger("neva.model")
SILENT = (".position_ids", ".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")
"""Ends of names of buffers, which hold nothing that was learned: older versions saved them."""


def rewrite(source: Checkpoint, out: Path, shard_bytes: int = SHARD_BYTES) -> Checkpoint:
    """The same weights, bit for bit, with `neva.json`; parents name the source by its sha256.

    Tensors that `config.json` does not ask for are left out, with a warning unless they are
    buffers or a tied head's copy: transformers would not read them either.
    """
    tensors = read_tensors(source)
    tied = is_tied(source.config, tensors)
    wanted = _wanted(source, tensors, tied)
    kept = TensorFiles({name: tensors.entries[name] for name in tensors if name in wanted})
    with written_aside(out) as folder:
        write_small_files(source, folder, tied, source.provenance.template)
        write_tensors(folder, kept, shard_bytes)
        origin = source.provenance
        if sha256_weights(folder) != source.sha256:
            origin = replace(origin, parents=origin.descent(source.sha256))
        origin.write(folder)
        Checkpoint.open(folder)  # what is not whole never gets its name
    return Checkpoint.open(out)


def _wanted(source: Checkpoint, tensors: TensorFiles, tied: bool) -> Collection[str]:
    """What is kept: all that the configuration asks for, and everything of an unknown LM."""
    if not knows_language(source.config):
        return {name for name in tensors if not (tied and name == HEAD)}
    wanted = {*expected_shapes(source.config), *(() if tied else (HEAD,))}
    lost = [n for n in tensors if n not in wanted and n != HEAD and not n.endswith(SILENT)]
    if lost:
        _log.warning(
            "%s: %d tensors are left out, which config.json does not ask for, first %s",
            *(source.path, len(lost), lost[0]),
        )
    return wanted
