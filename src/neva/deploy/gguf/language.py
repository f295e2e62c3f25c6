"""The language model for llama.cpp: its architecture's name, numbers, and tensors.

llama, mistral, qwen2 and nemotron are here; gpt2 and gpt_neox in gpt.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from neva.deploy.gguf.file import Array, Part, plain
from neva.engine.graphs.rope import frequencies
from neva.errors import CheckpointError
from neva.model.keys import BODY, HEAD
from neva.model.tied import is_tied

Config = Mapping[str, Any]
Tensors = Mapping[str, Array]

LLAMA = "llama"
ARCHITECTURES: Mapping[str, str] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": "qwen2",
    "nemotron": "nemotron",
}
"""Hugging Face's name of a family -> llama.cpp's, which computes mistral as llama."""
ACTIVATIONS = {"nemotron": ("relu2",)}

BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ROTATED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}


@dataclass(frozen=True)
class Rope:
    """Rotary positions: `width` of each head's numbers turn."""

    theta: float
    kind: str
    numbers: Mapping[str, Any]
    head: int
    width: int


def rope(text: Config) -> Rope:
    """What `config.json` says of them, in either spelling; CheckpointError for other scalings."""
    said = text.get("rope_parameters") or text.get("rope_scaling") or {}
    theta = said.get("rope_theta") or text.get("rope_theta") or text.get("rotary_emb_base")
    kind = str(said.get("rope_type") or said.get("type") or "default")
    able = ("default", "linear", "llama3")
    family = text["model_type"]
    if kind not in able or (kind == "llama3" and ARCHITECTURES.get(family) != LLAMA):
        raise CheckpointError(
            f"config.json: the rotary scaling {kind!r} of a {family} language model cannot be "
            f"exported for llama.cpp ({', '.join(able)} can, llama3 for llama and mistral)."
        )
    head = int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])
    share = 1.0
    if family in ("nemotron", "gpt_neox"):
        found = said.get("partial_rotary_factor") or text.get("partial_rotary_factor")
        share = float(found or text.get("rotary_pct") or (0.5 if family == "nemotron" else 0.25))
    return Rope(float(theta or 10000.0), kind, said, head, int(head * share))


def describe(writer: GGUFWriter, text: Config) -> None:
    """The language model's numbers; CheckpointError for what llama.cpp would compute otherwise."""
    family = text["model_type"]
    acts = ACTIVATIONS.get(family, ("silu",))
    if text.get("hidden_act", acts[0]) not in acts:
        raise CheckpointError(
            f"config.json: the activation {text['hidden_act']!r} of a {family} language model "
            f"cannot be exported for llama.cpp, which has {acts[0]} there."
        )
    describe_sizes(writer, text)
    writer.add_head_count_kv(int(text.get("num_key_value_heads") or text["num_attention_heads"]))
    describe_rope(writer, rope(text))
    if family == "nemotron":
        writer.add_layer_norm_eps(float(text.get("norm_eps", 1e-5)))
    else:
        writer.add_layer_norm_rms_eps(float(text.get("rms_norm_eps", 1e-6)))


def describe_sizes(writer: GGUFWriter, text: Config) -> None:
    """What every architecture has."""
    writer.add_embedding_length(int(text["hidden_size"]))
    writer.add_block_count(int(text["num_hidden_layers"]))
    writer.add_feed_forward_length(int(text["intermediate_size"]))
    writer.add_head_count(int(text["num_attention_heads"]))


def describe_rope(writer: GGUFWriter, found: Rope) -> None:
    """Rotary positions; llama3's scaling is a tensor of its own (`language_parts`)."""
    writer.add_rope_dimension_count(found.width)
    writer.add_key_length(found.head)
    writer.add_value_length(found.head)
    writer.add_rope_freq_base(found.theta)
    if found.kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(found.numbers["factor"]))


def language_parts(text: Config, config: Config, tensors: Tensors) -> Iterator[Part]:
    """Every tensor of the language model under llama.cpp's names."""
    family = text["model_type"]
    table = tensors[f"{BODY}embed_tokens.weight"]
    yield plain("token_embd.weight", table)
    if not is_tied(config, tensors):
        yield plain("output.weight", tensors[HEAD])
    elif family == "nemotron":
        yield plain("output.weight", table)  # llama.cpp asks for a head there
    for part in ("weight", "bias"):
        if (name := f"{BODY}norm.{part}") in tensors:
            yield _norm(f"output_norm.{part}", tensors[name], family)
    if rope(text).kind == "llama3":
        yield _slowed(text)
    for index in range(int(text["num_hidden_layers"])):
        yield from _block(index, text, tensors)


def _block(index: int, text: Config, tensors: Tensors) -> Iterator[Part]:
    family = text["model_type"]
    for ours, theirs in BLOCK.items():
        for part in ("weight", "bias"):
            name = f"{BODY}layers.{index}.{ours}.{part}"
            if name not in tensors:
                continue
            values, target = tensors[name], f"blk.{index}.{theirs}.{part}"
            if theirs in ROTATED and ARCHITECTURES[family] == LLAMA:
                heads = int(text.get(ROTATED[theirs]) or text["num_attention_heads"])
                yield _turned(target, values, heads)
            elif theirs.endswith("norm"):
                yield _norm(target, values, family)
            else:
                yield plain(target, values)


def _turned(name: str, rows: Array, heads: int) -> Part:
    """Query's or key's rows: llama.cpp's llama turns neighbours, not halves."""
    return Part(name, rows.shape, lambda: pairs_together(rows, heads))


def pairs_together(rows: Array, heads: int) -> Array:
    """Rotary halves as Hugging Face has them -> interleaved pairs, (rows, ...) each head apart."""
    half = rows.shape[0] // heads // 2
    parted = np.asarray(rows).reshape(heads, 2, half, *rows.shape[1:])
    return parted.swapaxes(1, 2).reshape(rows.shape)


def _norm(name: str, values: Array, family: str) -> Part:
    """A norm's numbers; nemotron's are stored as what they differ from one."""
    if family == "nemotron" and name.endswith("weight"):
        return Part(name, values.shape, lambda: np.asarray(values, np.float32) + 1)
    return plain(name, values)


def _slowed(text: Config) -> Part:
    """What llama.cpp divides each rotary frequency by, as Llama 3.1 slows the low ones."""
    head = rope(text).head
    unscaled = {**text, "rope_scaling": None, "rope_parameters": {"rope_theta": rope(text).theta}}
    return plain("rope_freqs.weight", frequencies(unscaled, head) / frequencies(text, head))
