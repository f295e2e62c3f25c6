"""Write a checkpoint anew under our names, without torch: the mender of foreign namings."""

import json
from dataclasses import replace
from pathlib import Path

from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.config import readable_by_all
from neva.model.files import carry_files, write_json, written_aside
from neva.model.keys import HEAD
from neva.model.shapes import expected_shapes, knows_language
from neva.model.weights import SHARD_BYTES, TensorFiles, write_tensors


def rewrite(source: Checkpoint, out: Path, shard_bytes: int = SHARD_BYTES) -> Checkpoint:
    """The same weights, bit for bit, with `neva.json`; parents name the source by its sha256.

    Tensors that `config.json` does not ask for (position ids, a tied head's copy) are left out.
    """
    tensors = read_tensors(source)
    wanted = set(expected_shapes(source.config))
    if not knows_language(source.config):
        tied = source.config.get("tie_word_embeddings")
        wanted = {name for name in tensors if not (tied and name == HEAD)}
    kept = TensorFiles({name: tensors.entries[name] for name in tensors if name in wanted})
    with written_aside(out) as folder:
        carry_files(source.path, folder)
        write_json(folder / "config.json", readable_by_all(source.config))
        _name_tokenizer(folder / "tokenizer_config.json")
        write_tensors(folder, kept, shard_bytes)
        origin = source.provenance
        replace(origin, parents=origin.descent(source.sha256)).write(folder)
        Checkpoint.open(folder)  # what is not whole never gets its name
    return Checkpoint.open(out)


def _name_tokenizer(file: Path) -> None:
    """Name the tokenizer's class as older versions know it; `tokenizer.json` says all the rest."""
    if not file.is_file():
        return
    record = json.loads(file.read_text(encoding="utf-8"))
    if record.get("tokenizer_class") == "TokenizersBackend":
        write_json(file, {**record, "tokenizer_class": "PreTrainedTokenizerFast"})
