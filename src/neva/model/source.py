"""Where a part to compose comes from: a directory, a file or a hub name; and its identity."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from neva.errors import CheckpointError
from neva.model.weights import sha256_file, sha256_weights

# What every configuration class writes and no model of ours asks for.
_NOISE = (
    "architectures",
    "chunk_size_feed_forward",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "quantization_config",
    "return_dict",
    "transformers_version",
    "_model_name_or_path",
    "_name_or_path",
)


def check_source(source: str | Path) -> None:
    """CheckpointError if `source` can only be a local path, and nothing is there."""
    text = str(source)
    local = isinstance(source, Path) or text.startswith(("/", ".", "~")) or text.count("/") > 1
    if local and not Path(source).exists():
        raise CheckpointError(f"{source}: there is no such file or directory.")


def why(source: str | Path, error: Exception) -> str:
    """Why a part could not be read: one line, with the remedy where it has no safetensors."""
    reason = str(error).strip().split("\n")[0]
    if "custom code" in reason:
        return "it brings Python of its own, which neva never runs"
    if "safetensors" not in reason:
        return reason
    return (
        "it has no safetensors, and neva reads no pickles; where you trust its makers, make them "
        f'once: python -c "from transformers import AutoModel as A; A.from_pretrained('
        f"'{source}', use_safetensors=False).save_pretrained('converted')\", then copy the other "
        "files there."
    )


def source_sha256(source: str | Path) -> str:
    """sha256 of a part's weights, which have been read already (a hub's are in its cache)."""
    path = Path(source)
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        path = Path(cached_file(str(source), "config.json")).parent
    return sha256_weights(path)


def source_name(source: str | Path) -> str:
    """What to call a part in provenance: a hub's name, or a local path's last part."""
    return Path(source).resolve().name if Path(source).exists() else str(source)


def part_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A part's configuration without what every class writes and nobody reads."""
    return {name: value for name, value in config.items() if name not in _NOISE}
