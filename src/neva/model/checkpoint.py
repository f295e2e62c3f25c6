"""A checkpoint seen without torch: what it is, whether it is whole, and how to speak to it.

`Checkpoint.open` reads JSON and the headers of safetensors only, so that a broken or incomplete
directory is refused in milliseconds with a sentence, and not deep inside an engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neva.errors import CheckpointError
from neva.images import PixelRecipe
from neva.model import provenance as origin
from neva.model.fingerprint import fingerprint
from neva.model.foreign import guess_provenance, image_token_id
from neva.model.keys import BODY
from neva.model.provenance import Provenance, read_provenance
from neva.model.reading import CONFIG, TOKENIZER, image_processor, read_json
from neva.model.shapes import expected_shapes, text_config, vision_config
from neva.model.weights import TensorFiles, read_weights, sha256_weights, tensor_entries
from neva.prompts import TEMPLATES, Template, stop_ids


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

        `template` is for a LLaVA checkpoint that has no `neva.json` (`neva.model.foreign`), and
        may not gainsay one.
        """
        folder = Path(path)
        _check_folder(folder)
        config = read_json(folder / CONFIG)
        _check_kind(folder, config)
        _require_tokenizer(folder)
        image_processor(folder)
        if (folder / origin.FILE).is_file():
            provenance = read_provenance(folder / origin.FILE)
            if template not in (None, provenance.template):
                raise CheckpointError(
                    f"{folder}: {origin.FILE} says that it was trained with the template "
                    f"{provenance.template!r}; leave out --template {template}."
                )
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
        return image_token_id(self.config)

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
        return tuple(sorted({*self.eos_ids, *stop_ids(self.template, self.tokenizer)}))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end an answer whatever the template, from all files that say one."""
        return tuple(sorted(set(self._eos_ids())))

    @cached_property
    def pixels(self) -> PixelRecipe:
        """How images become pixels for this vision tower, as its image processor says."""
        return PixelRecipe.from_config(image_processor(self.path))

    @cached_property
    def sha256(self) -> str:
        """sha256 of the weights: identity and cache key. Reads every byte, once per object."""
        return sha256_weights(self.path)

    @cached_property
    def fingerprint(self) -> str:
        """16 digits that tell weights apart, read from a few bytes of each tensor."""
        return fingerprint(self.path)

    def _eos_ids(self) -> Iterator[int]:
        generation = self.path / "generation_config.json"
        sources = [self.config, text_config(self.config)]
        if generation.is_file():
            sources.append(read_json(generation))
        for source in sources:
            found = source.get("eos_token_id")
            if isinstance(found, int):
                yield found
            elif found:
                yield from found


def read_tensors(checkpoint: Checkpoint) -> TensorFiles:
    """Every tensor of the checkpoint by disk name, each read when asked for (bf16: ml_dtypes)."""
    return read_weights(checkpoint.path)


def _check_folder(folder: Path) -> None:
    """CheckpointError for what is no directory, or is a NeMo archive, packed or not."""
    packed = folder.suffix == ".nemo" and folder.is_file()
    if packed or ((folder / "model_config.yaml").is_file() and not (folder / CONFIG).is_file()):
        raise CheckpointError(
            f"{folder}: this is a NeMo archive; make a checkpoint of it first, by "
            f"`neva import {folder} --language LM -o DIR`."
        )
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such directory; give a checkpoint's path.")


def _check_kind(folder: Path, config: Mapping[str, Any]) -> None:
    """CheckpointError for what is no LLaVA of a CLIP, or is quantised."""
    place = folder / CONFIG
    if "mm_vision_tower" in config or "mm_projector_type" in config:
        raise CheckpointError(
            f"{place}: this is LLaVA's own layout; make a checkpoint of it first, by "
            f"`neva import {folder} -o DIR`."
        )
    if config.get("model_type") != "llava":
        kind = config.get("model_type", "unknown")
        raise CheckpointError(
            f"{place}: this is a {kind!r} model, not a LLaVA checkpoint; "
            "join a CLIP and a language model with `neva compose`."
        )
    for part in ("text_config", "vision_config"):
        if not isinstance(config.get(part) or {}, dict):
            raise CheckpointError(f"{place}: {part} is no JSON object; copy it again.")
    tower = vision_config(config)["model_type"]
    if tower != "clip_vision_model":
        raise CheckpointError(
            f"{place}: its vision tower is a {tower!r}; neva takes CLIP only (clip_vision_model)."
        )
    parts = (config, config.get("text_config") or {}, config.get("vision_config") or {})
    if any(part.get("quantization_config") for part in parts):
        raise CheckpointError(
            f"{place}: its weights are quantised; take the checkpoint that they were made from "
            "(`--precision int8` and `int4` quantise as they load)."
        )


def _require_tokenizer(folder: Path) -> None:
    if not (folder / TOKENIZER).is_file():
        remedy = "save the tokenizer with a current transformers (`use_fast=True`)"
        raise CheckpointError(f"{folder}: {TOKENIZER} is missing; {remedy}.")


def _check_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """Compare headers with the shapes that `config.json` implies; no weight is read."""
    entries = tensor_entries(folder)
    found = {name: entry.shape for name, entry in entries.items()}
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
        if not entries[name].floating:
            raise CheckpointError(
                f"{folder}: {name} holds {entries[name].dtype}, no floating numbers: it is "
                "quantised, and neva takes the weights that it was made from."
            )
