"""A checkpoint seen without torch: what it is, whether it is whole, and how to speak to it.

`Checkpoint.open` reads JSON and the headers of safetensors only, so that a broken or incomplete
directory is refused in milliseconds with a sentence, and not deep inside an engine.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neva.errors import CheckpointError
from neva.images import PixelRecipe
from neva.model import provenance as origin
from neva.model.foreign import guess_provenance
from neva.model.keys import BODY
from neva.model.provenance import Provenance, read_provenance
from neva.model.shapes import expected_shapes, text_config, vision_config
from neva.model.weights import TensorFiles, read_weights, sha256_weights, tensor_entries
from neva.prompts import TEMPLATES, Template, stop_ids

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face LLaVA directory; make one with `Checkpoint.open`, which checks it.

    `config` is `config.json` as it is on disk.
    """

    path: Path
    config: Mapping[str, Any]
    provenance: Provenance

    @classmethod
    def open(cls, path: Path | str, template: str | None = None) -> "Checkpoint":
        """Read and check a directory; CheckpointError names what is missing or wrong.

        `template` is for a LLaVA checkpoint that has no `neva.json` (`neva.model.foreign`).
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such directory; give a checkpoint's path.")
        config = _read_json(folder / CONFIG)
        if config.get("model_type") != "llava":
            kind = config.get("model_type", "unknown")
            raise CheckpointError(
                f"{folder / CONFIG}: this is a {kind!r} model, not a LLaVA checkpoint; "
                "join a CLIP and a language model with `neva compose`."
            )
        _require_files(folder)
        if (folder / origin.FILE).is_file():
            provenance = read_provenance(folder / origin.FILE)
        else:
            provenance = guess_provenance(folder, config, template)
        _check_weights(folder, config)
        return cls(folder, config, provenance)

    @cached_property
    def template(self) -> Template:
        """The prompt template that `neva.json` names (or that was guessed, see provenance)."""
        name = self.provenance.template
        if name not in TEMPLATES:
            known = ", ".join(TEMPLATES)
            raise CheckpointError(f"{self.path}: unknown template {name!r}; known are {known}.")
        return TEMPLATES[name]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, from `tokenizer.json`."""
        try:
            return Tokenizer.from_file(str(self.path / TOKENIZER))
        except Exception as error:  # the Rust library raises bare Exception
            raise CheckpointError(f"{self.path / TOKENIZER}: not a tokenizer: {error}") from error

    @property
    def image_token_id(self) -> int:
        """The id whose places are filled with image features."""
        return int(self.config.get("image_token_index", self.config.get("image_token_id", 32000)))

    @property
    def image_tokens(self) -> int:
        """P: how many tokens one image takes."""
        vision = vision_config(self.config)
        patches = int(vision["image_size"] // vision["patch_size"]) ** 2
        return patches + int(self.config.get("vision_feature_select_strategy") == "full")

    @property
    def dtype(self) -> str:
        """The weights' type, by torch's name: "bfloat16", "float16" or "float32"."""
        return str(self.config.get("dtype") or self.config.get("torch_dtype") or "float32")

    @property
    def context(self) -> int:
        """The most tokens that the language model was made for, image tokens included."""
        text = text_config(self.config)
        if "max_position_embeddings" not in text:
            raise CheckpointError(f"{self.path / CONFIG}: text_config has no length of context.")
        return int(text["max_position_embeddings"])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: the template's stop where it is one token, and every EOS."""
        return tuple(sorted({*self._eos_ids(), *stop_ids(self.template, self.tokenizer)}))

    @cached_property
    def pixels(self) -> PixelRecipe:
        """How images become pixels for this vision tower, from `preprocessor_config.json`."""
        return PixelRecipe.from_config(_read_json(self.path / PREPROCESSOR))

    @cached_property
    def sha256(self) -> str:
        """sha256 of the weights: identity and cache key. Reads every byte, once per object."""
        return sha256_weights(self.path)

    def _eos_ids(self) -> Iterator[int]:
        generation = self.path / "generation_config.json"
        sources = [self.config, text_config(self.config)]
        if generation.is_file():
            sources.append(_read_json(generation))
        for source in sources:
            found = source.get("eos_token_id")
            if isinstance(found, int):
                yield found
            elif found:
                yield from found


def read_tensors(checkpoint: Checkpoint) -> TensorFiles:
    """Every tensor of the checkpoint by disk name, each read when asked for (bf16: ml_dtypes)."""
    return read_weights(checkpoint.path)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.parent}: {file.name} is missing; a checkpoint is a Hugging Face LLaVA "
            "directory, made by `neva compose`."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy it again.") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: not a JSON object; copy it again.")
    return record


def _require_files(folder: Path) -> None:
    for name, remedy in (
        (TOKENIZER, "save the tokenizer with a current transformers (`use_fast=True`)"),
        (PREPROCESSOR, f"write the image_processor part of {PROCESSOR} there"),
    ):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; {remedy}.")


def _check_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """Compare headers with the shapes that `config.json` implies; no weight is read."""
    found = {name: entry.shape for name, entry in tensor_entries(folder).items()}
    try:
        expected = expected_shapes(config)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: incomplete, {error!r}; copy it again."
        ) from error
    missing = [name for name in expected if name not in found]
    if not any(name.startswith(BODY) for name in found):
        missing.append(f"{BODY}*")
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors that {CONFIG} asks for are missing, first "
            f"{missing[0]}; the checkpoint is incomplete, copy or make it again."
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {found[name]}, but {CONFIG} asks for {shape}; "
                "the two files do not belong together."
            )
