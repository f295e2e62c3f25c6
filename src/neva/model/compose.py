"""Join a CLIP, a fresh projector and a GPT into a checkpoint that transformers loads as LLaVA.

The checkpoint is put together from tensors by their disk names; no LLaVA model is built, so that no
version of transformers has a say in what is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from neva.errors import CheckpointError
from neva.model.arrays import as_array
from neva.model.assemble import Words, llava_config, write_files
from neva.model.checkpoint import Checkpoint
from neva.model.files import check_free, written_aside
from neva.model.keys import HEAD, PROJECTOR
from neva.model.kinds import DType, ProjectorKind
from neva.model.language import Language, read_language
from neva.model.processor import IMAGE_TOKEN
from neva.model.projector import check_kind, fresh_projector
from neva.model.provenance import Aspect, Provenance
from neva.model.shapes import counted_layers, expected_shapes, text_config
from neva.model.source import source_name, source_sha256
from neva.model.vision import Vision, read_vision
from neva.model.weights import write_tensors
from neva.prompts import TEMPLATES


@dataclass(frozen=True)
class Parts:
    """What a checkpoint is made of, read and checked."""

    vision: Vision
    language: Language
    image_token_id: int


def compose(
    vision: str | Path,
    language: str | Path,
    projector: ProjectorKind,
    out: Path,
    template: str = "v1",
    feature_layer: int | Sequence[int] = -2,
    aspect: Aspect = "pad",
    dtype: DType = "bfloat16",
    seed: int = 0,
) -> Checkpoint:
    """Write a checkpoint to `out`, which must not exist, and return it opened.

    `vision` and `language` are directories or hub names; `language` may be a GGUF file. Of several
    `feature_layer` the projector reads the features side by side, as Hugging Face's LLaVA does. The
    projector is fresh (`fresh_projector`), the rest is as it was. CheckpointError for anything that
    does not fit, and then nothing is left at `out`.
    """
    _check_words(projector, template, aspect, dtype)
    check_free(out)
    kind = getattr(torch, dtype)
    seen, spoken = read_vision(vision, kind), read_language(language, kind)
    layers = [feature_layer] if isinstance(feature_layer, int) else list(feature_layer)
    check_layers(vision, layers, seen.config["num_hidden_layers"])
    parts = Parts(seen, spoken, add_image_token(spoken.tokenizer, spoken.source))
    config = _config(parts, projector, layers, dtype)
    tensors = {**seen.tensors, **_with_image_row(spoken, parts.image_token_id)}
    target = float(tensors[spoken.embedding].float().pow(2).mean().sqrt())
    width = int(text_config(config)["hidden_size"])
    features = seen.probe_features(layers, seed)
    fresh = fresh_projector(projector, features, width, target, seed)
    tensors |= {PROJECTOR + name: tensor.to(kind) for name, tensor in fresh.items()}
    made = {"vision": source_name(vision), "language": source_name(language), "seed": seed}
    parents = (source_sha256(vision), source_sha256(language))
    with written_aside(out) as folder:
        _write(folder, parts, config, tensors, template, aspect)
        Provenance("composed", template, aspect, projector, made, parents=parents).write(folder)
        Checkpoint.open(folder)  # what is not whole never gets its name
    return Checkpoint.open(out)


def check_layers(vision: str | Path, layers: Sequence[int], depth: int) -> None:
    """CheckpointError unless a tower of so many layers has all of them, each of them once."""
    for layer in layers:
        if not 0 < abs(layer) <= depth:
            raise CheckpointError(f"{vision}: its vision tower has no layer {layer}.")
    if not layers or len(set(counted_layers(layers, depth))) < len(layers):
        raise CheckpointError(f"Feature layers {list(layers)}: give each layer once.")


def _check_words(projector: str, template: str, aspect: str, dtype: str) -> None:
    check_kind(projector)
    for value, known, noun in (
        (template, tuple(TEMPLATES), "template"),
        (aspect, get_args(Aspect), "aspect"),
        (dtype, get_args(DType), "dtype"),
    ):
        if value not in known:
            raise CheckpointError(
                f"There is no {noun} {value!r}; choose one of: {', '.join(known)}."
            )


def add_image_token(tokenizer: Tokenizer, source: str) -> int:
    """The id of the image token, added to the tokenizer as special if it is not there yet."""
    tokenizer.add_special_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)])
    found = tokenizer.token_to_id(IMAGE_TOKEN)
    if found is None:
        raise CheckpointError(f"{source}: its tokenizer does not take a new token.")
    return found


def _with_image_row(language: Language, image_token_id: int) -> dict[str, Tensor]:
    """The language model's tensors, where the image token's row is the mean of all others.

    The vocabulary grows by what is needed and no more; a spare row is used where there is one. As a
    mean, the image token's logit is never the largest.
    """
    tensors = dict(language.tensors)
    for name in {language.embedding, HEAD} & tensors.keys():
        tensors[name] = with_mean_row(tensors[name], image_token_id)
    return tensors


def with_mean_row(rows: Tensor, place: int) -> Tensor:
    """The rows, where that at `place` is the mean of those before it; (V, D) -> (V or more, D)."""
    others = rows[:place] if place else rows[1:]
    mean = others.float().mean(0, keepdim=True).to(rows.dtype)
    more = mean.expand(max(0, place + 1 - rows.shape[0]), -1)
    return torch.cat([rows, more]).index_copy(0, torch.tensor([place]), mean)


def _config(
    parts: Parts, projector: ProjectorKind, layers: Sequence[int], dtype: DType
) -> dict[str, Any]:
    """`config.json`."""
    language = parts.language
    rows = language.tensors[language.embedding].shape[0]
    return llava_config(
        {**language.config, "vocab_size": max(rows, parts.image_token_id + 1)},
        dict(parts.vision.config),
        projector,
        layers,
        parts.image_token_id,
        language.tied,
        dtype,
    )


def _write(
    folder: Path,
    parts: Parts,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    template: str,
    aspect: Aspect,
) -> None:
    """Write everything but `neva.json`."""
    language, vision = parts.language, parts.vision
    words = Words(language.tokenizer, language.special, language.eos_ids)
    write_files(folder, config, words, (vision.mean, vision.std), template, aspect)
    write_tensors(folder, {name: as_array(tensors[name]) for name in expected_shapes(config)})
