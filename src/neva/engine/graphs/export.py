"""A checkpoint's graphs as a directory that openvino-genai loads, made once and kept.

The directory is `<checkpoint>/openvino/<weights>-<key>/`, or lies in the user's cache where the
checkpoint is read-only. The key covers weights, configuration, vocabulary, this builder and the
OpenVINO version, so a change of any of them makes a new directory; a copy of a checkpoint, as in
a container's layers, brings its graphs along. It is written aside and renamed,
and one that has lost files or parts of them since is made anew (`neva.sealing`). No tokenizer goes
in, since we only ever submit embeddings.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from neva.cachedir import cache_dir
from neva.engine.precision import Weights
from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.keys import BODY
from neva.model.shapes import text_config
from neva.model.weights import weight_files
from neva.sealing import put_in_place, seal, whole

BUILDER = 6  # raise it when the graphs change: old directories are then made again
RECORD = "export.json"
TIMES = "times"
_log = logging.getLogger("neva.engine")


@dataclass(frozen=True)
class Export:
    """A finished directory."""

    folder: Path

    @property
    def vision(self) -> Path:
        """The real vision graph (genai's own vision file is a stub)."""
        return self.folder / "neva_vision_model.xml"

    @property
    def language(self) -> Path:
        """Embeddings to logits, as genai loads it."""
        return self.folder / "openvino_language_model.xml"

    @property
    def text(self) -> Path:
        """Ids to embeddings."""
        return self.folder / "openvino_text_embeddings_model.xml"


def export(checkpoint: Checkpoint, weights: Weights) -> Export:
    """The checkpoint's graphs, built if they are not there yet.

    CheckpointError if the model is of a kind that has no graph, or no place can be written.
    """
    found = find_export(checkpoint, weights)
    if found is not None:
        return found
    return _build(checkpoint, weights, _identity(checkpoint), _writable(_roots(checkpoint)))


def find_export(checkpoint: Checkpoint, weights: Weights) -> Export | None:
    """The checkpoint's graphs if they are there already. Does not import OpenVINO."""
    made_from = _identity(checkpoint)
    for root in _roots(checkpoint):
        for record in sorted(root.glob(f"{weights}-*/{RECORD}")):
            if _made_from(made_from, record) and whole(record.parent):
                return Export(record.parent)
    return None


def _roots(checkpoint: Checkpoint) -> list[Path]:
    return [checkpoint.path / "openvino", cache_dir() / "openvino"]


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the graphs depend on. A warm start must not read gigabytes, so weights are known by
    names, shapes, pieces of every tensor, and times."""
    config = json.dumps(checkpoint.config, sort_keys=True).encode()
    return {
        "builder": BUILDER,
        "openvino": version("openvino"),
        "config": hashlib.sha256(config).hexdigest(),
        "vocabulary": checkpoint.tokenizer.get_vocab_size(with_added_tokens=True),
        "weights": checkpoint.fingerprint,
        TIMES: [file.stat().st_mtime_ns for file in weight_files(checkpoint.path)],
    }


def _made_from(wanted: Mapping[str, Any], record: Path) -> bool:
    """Whether these graphs are of these weights: written at the times that the record says or, in
    a copy, which has times of its own, not after it. An edit that the pieces miss is after it.
    """
    found, times = _read(record), wanted[TIMES]
    if not isinstance(found, dict) or {**found, TIMES: times} != wanted:
        return False
    return bool(found.get(TIMES) == times or max(times) <= record.stat().st_mtime_ns)


def _read(record: Path) -> Any:
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _writable(roots: list[Path]) -> Path:
    """The first root that can be made and written."""
    for root in roots:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(root, os.W_OK):
            return root
    places = " and ".join(str(root) for root in roots)
    raise CheckpointError(
        f"the engine's graphs cannot be stored: {places} are not writable; "
        "set XDG_CACHE_HOME to a directory that is"
    )


def _build(
    checkpoint: Checkpoint, weights: Weights, made_from: Mapping[str, Any], root: Path
) -> Export:
    """Write aside, then rename."""
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    final = root / f"{weights}-{key}"
    started = perf_counter()
    aside = Path(tempfile.mkdtemp(prefix=f".{weights}-", dir=root))
    try:
        _write_graphs(checkpoint, weights, aside)
        (aside / RECORD).write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
        seal(aside)
        aside.chmod(0o755)
        put_in_place(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _log.info("built the %s graphs in %.1f s: %s", weights, perf_counter() - started, final)
    return Export(final)


def _write_graphs(checkpoint: Checkpoint, weights: Weights, folder: Path) -> None:
    """The four graphs and the three small JSON files that genai reads."""
    from openvino import save_model

    from neva.engine.graphs.language import language_model
    from neva.engine.graphs.vision import stub_vision_model, vision_model
    from neva.engine.graphs.words import text_embeddings

    tensors, config = read_tensors(checkpoint), checkpoint.config
    rows, width = tensors[f"{BODY}embed_tokens.weight"].shape
    vocabulary = min(rows, checkpoint.tokenizer.get_vocab_size(with_added_tokens=True))
    forbidden = (checkpoint.image_token_id,)
    text = text_config(config)
    graphs: dict[str, Callable[[], Any]] = {
        "neva_vision_model": lambda: vision_model(config, tensors, weights),
        "openvino_vision_embeddings_model": lambda: stub_vision_model(width),
        "openvino_text_embeddings_model": lambda: text_embeddings(tensors, weights),
        "openvino_language_model": lambda: language_model(
            text, tensors, vocabulary, forbidden, weights
        ),
    }
    for name, make in graphs.items():  # one at a time: each holds its weights in memory
        save_model(make(), folder / f"{name}.xml", compress_to_fp16=False)
    size = {"height": 32, "width": 32}
    small = {
        "config": {"model_type": "llava", "text_config": {"hidden_size": width}},
        "preprocessor_config": {"size": {"shortest_edge": 32}, "crop_size": size},
        # genai insists on some EOS; the image token is never chosen, so ours alone end an answer
        "generation_config": {"eos_token_id": checkpoint.image_token_id},
    }
    for name, record in small.items():
        (folder / f"{name}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
