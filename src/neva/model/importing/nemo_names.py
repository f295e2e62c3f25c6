"""Megatron's tensors, fused and divided among ranks, taken apart into Hugging Face's.

Query, key and value are one matrix, group by group: the queries of a group, its key, its value.
Gate and up are one matrix, of which each rank has halves of both. Names are Megatron-core's, with
Transformer Engine and without, and NeMo's before it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from neva.errors import CheckpointError
from neva.model.importing.found import only
from neva.model.importing.nemo_config import NemoFacts
from neva.model.importing.raw import Raw, Raws, changed, joined, rows
from neva.model.keys import BODY, HEAD, VISION
from neva.model.rewrite import SILENT

WORDS = f"{BODY}embed_tokens.weight"
ADAPTER = re.compile(
    r"embedding\.word_embeddings\.adapter_layer\."
    r"(?:mm_projector_adapter\.mm_projector|mm_linear_adapter\.linear)\.(.+)"
)
_TOWER = "embedding.word_embeddings.vision_encoder."
_LAYER = re.compile(r"(?:decoder|encoder)\.layers\.(\d+)\.(.+)")
# How a tensor is divided among ranks: along an axis, as a gated pair of halves, or not at all.
_ROWS, _COLUMNS, _GATED, _COPIES = "rows", "columns", "gated", "copies"
_TOP: Mapping[str, tuple[str, str]] = {
    "embedding.word_embeddings.weight": (WORDS, _ROWS),
    "output_layer.weight": (HEAD, _ROWS),
    "decoder.final_layernorm.weight": (f"{BODY}norm.weight", _COPIES),
    "decoder.final_layernorm.bias": (f"{BODY}norm.bias", _COPIES),
    "encoder.final_layernorm.weight": (f"{BODY}norm.weight", _COPIES),
    "encoder.final_layernorm.bias": (f"{BODY}norm.bias", _COPIES),
}
_QKV, _FC1 = "qkv", "fc1"
# Megatron-core's names (with Transformer Engine, without) and those before it.
_IN_LAYER: Mapping[str, tuple[str, str]] = {
    "self_attention.linear_qkv.weight": (_QKV, _ROWS),
    "self_attention.query_key_value.weight": (_QKV, _ROWS),
    "self_attention.linear_proj.weight": ("self_attn.o_proj.weight", _COLUMNS),
    "self_attention.dense.weight": ("self_attn.o_proj.weight", _COLUMNS),
    "mlp.linear_fc1.weight": (_FC1, _GATED),
    "mlp.dense_h_to_4h.weight": (_FC1, _GATED),
    "mlp.linear_fc2.weight": ("mlp.down_proj.weight", _COLUMNS),
    "mlp.dense_4h_to_h.weight": ("mlp.down_proj.weight", _COLUMNS),
    "self_attention.linear_qkv.layer_norm_weight": ("input_layernorm.weight", _COPIES),
    "self_attention.linear_qkv.layer_norm_bias": ("input_layernorm.bias", _COPIES),
    "input_layernorm.weight": ("input_layernorm.weight", _COPIES),
    "input_layernorm.bias": ("input_layernorm.bias", _COPIES),
    "mlp.linear_fc1.layer_norm_weight": ("post_attention_layernorm.weight", _COPIES),
    "mlp.linear_fc1.layer_norm_bias": ("post_attention_layernorm.bias", _COPIES),
    "pre_mlp_layernorm.weight": ("post_attention_layernorm.weight", _COPIES),
    "pre_mlp_layernorm.bias": ("post_attention_layernorm.bias", _COPIES),
    "post_attention_layernorm.weight": ("post_attention_layernorm.weight", _COPIES),
    "post_attention_layernorm.bias": ("post_attention_layernorm.bias", _COPIES),
}


def unwrapped(found: Raws) -> dict[str, Raw]:
    """Names without what wraps the model (`model.`, Megatron's half-precision `module.`)."""
    plain: dict[str, Raw] = {}
    for name, raw in found.items():
        short = name
        for wrap in ("model.", "module.", "language_model."):
            short = short.removeprefix(wrap)
        if short in plain:
            raise CheckpointError(f"{raw.place}: it is there under two names; copy it again.")
        if not short.endswith(SILENT):
            plain[short] = raw
    return plain


def taken_apart(source: Path, shards: Sequence[Raws], facts: NemoFacts) -> dict[str, Raw]:
    """The tensors of all ranks joined, by disk names or, of the projector, by their own.

    CheckpointError for names that are unknown, and for ranks that do not have the same ones.
    """
    first = shards[0]
    if any(set(shard) != set(first) for shard in shards):
        raise CheckpointError(f"{source}: its shards hold tensors of other names; copy it again.")
    whole: dict[str, Raw] = {}
    known: dict[str, Raw] = {}
    for name in first:
        pieces = [shard[name] for shard in shards]
        for ours, raw in _placed(source, name, pieces, facts):
            if ours in whole:
                raise CheckpointError(f"{raw.place}: it is there under two names; copy it again.")
            whole[ours], known[name] = raw, raw
    only(source, known, first)
    return whole


def _placed(
    source: Path, name: str, pieces: Sequence[Raw], facts: NemoFacts
) -> Iterator[tuple[str, Raw]]:
    """What becomes of one of the archive's tensors: one of ours, or two or three; or nothing."""
    if name.startswith(_TOWER):
        own = name.removeprefix(_TOWER).removeprefix("vision_model.")
        yield VISION + own, _copy(source, name, pieces)
    elif ADAPTER.fullmatch(name):
        yield name, _copy(source, name, pieces)
    elif name in _TOP:
        ours, division = _TOP[name]
        yield ours, _whole(source, name, pieces, division)
    elif (layer := _LAYER.fullmatch(name)) and layer[2] in _IN_LAYER:
        ours, division = _IN_LAYER[layer[2]]
        place = f"{BODY}layers.{layer[1]}."
        if ours == _QKV:
            yield from _apart(place, _whole(source, name, pieces, _ROWS), facts)
        elif ours == _FC1 and facts.gated:
            for half, end in ((0, "gate_proj"), (1, "up_proj")):
                halves = [_half(piece, half) for piece in pieces]
                yield f"{place}mlp.{end}.weight", joined(halves, 0)
        elif ours == _FC1:
            yield f"{place}mlp.up_proj.weight", _whole(source, name, pieces, _ROWS)
        else:
            yield place + ours, _whole(source, name, pieces, division)


def _whole(source: Path, name: str, pieces: Sequence[Raw], division: str) -> Raw:
    if division == _COPIES:
        return _copy(source, name, pieces)
    if any(len(piece.shape) != 2 for piece in pieces):
        raise CheckpointError(f"{pieces[0].place} is no matrix; copy the archive again.")
    dim = 0 if division == _ROWS else 1
    if len({piece.shape[1 - dim] for piece in pieces}) > 1:
        raise CheckpointError(f"{source}: the pieces of {name} do not fit; copy it again.")
    return joined(pieces, dim)


def _copy(source: Path, name: str, pieces: Sequence[Raw]) -> Raw:
    """What every rank has a copy of; CheckpointError where the copies differ."""
    first = pieces[0]
    for piece in pieces[1:]:
        if piece.shape != first.shape or not torch.equal(piece.read(), first.read()):
            raise CheckpointError(
                f"{source}: its ranks hold different copies of {name}; the shards are not of one "
                "model."
            )
    return first


def _half(piece: Raw, half: int) -> Raw:
    length = piece.shape[0] // 2
    if len(piece.shape) != 2 or piece.shape[0] % 2:
        raise CheckpointError(f"{piece.place} is no pair of gate and up; copy the archive again.")
    return rows(piece, half * length, (half + 1) * length)


def _apart(place: str, fused: Raw, facts: NemoFacts) -> Iterator[tuple[str, Raw]]:
    """Query, key and value of ((heads + 2 groups) size, D), laid group by group."""
    per = facts.heads // facts.groups
    units = facts.groups * (per + 2)
    size, rest = divmod(fused.shape[0], units)
    if rest or per * facts.groups != facts.heads:
        raise CheckpointError(
            f"{fused.place} has {fused.shape[0]} rows, which are no {facts.heads} heads in "
            f"{facts.groups} groups; copy the archive again."
        )
    width = fused.shape[1]
    for name, start, stop in (("q", 0, per), ("k", per, per + 1), ("v", per + 1, per + 2)):
        shape = (facts.groups * (stop - start) * size, width)

        grouped = (facts.groups, per + 2, size, width)
        part = partial(_units, grouped=grouped, units=slice(start, stop), shape=shape)
        yield f"{place}self_attn.{name}_proj.weight", changed(fused, shape, part)


def _units(fused: Tensor, grouped: tuple[int, ...], units: slice, shape: tuple[int, int]) -> Tensor:
    return fused.reshape(grouped)[:, units].reshape(shape)
