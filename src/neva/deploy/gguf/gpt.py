"""GPT-2 and GPT-NeoX for llama.cpp: query, key and value in one matrix, norms with biases."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from gguf import GGUFWriter

from neva.deploy.gguf.file import Array, Part, plain
from neva.deploy.gguf.language import Config, Tensors, describe_rope, describe_sizes, rope
from neva.errors import CheckpointError
from neva.model.keys import BODY, HEAD
from neva.model.tied import is_tied

GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""llama.cpp has the approximation by tanh for all of them."""
GPT2_BLOCK = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
NEOX_BLOCK = {
    "input_layernorm": "attn_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}


def describe_gpt2(writer: GGUFWriter, text: Config) -> None:
    """GPT-2's numbers."""
    _check_activation(str(text.get("activation_function", "gelu_new")))
    scaled = text.get("scale_attn_weights", True) and not text.get(
        "scale_attn_by_inverse_layer_idx"
    )
    if not scaled:
        raise CheckpointError(
            "config.json: a GPT-2 whose attention is scaled in another way than by the width of "
            "its heads cannot be exported for llama.cpp."
        )
    describe_sizes(writer, text)
    writer.add_layer_norm_eps(float(text.get("layer_norm_epsilon", 1e-5)))


def describe_gpt_neox(writer: GGUFWriter, text: Config) -> None:
    """GPT-NeoX's numbers."""
    _check_activation(str(text.get("hidden_act", "gelu")))
    describe_sizes(writer, text)
    describe_rope(writer, rope(text))
    writer.add_parallel_residual(bool(text.get("use_parallel_residual", True)))
    writer.add_layer_norm_eps(float(text.get("layer_norm_eps", 1e-5)))


def gpt2_parts(text: Config, config: Config, tensors: Tensors) -> Iterator[Part]:
    """GPT-2's tensors; its matrices lie transposed on our disk (Conv1D)."""
    yield from _outside(config, tensors, "wte", "ln_f")
    yield plain("position_embd.weight", tensors[f"{BODY}wpe.weight"], exact=True)
    for index in range(int(text["num_hidden_layers"])):
        for ours, theirs in GPT2_BLOCK.items():
            for part in ("weight", "bias"):
                values = tensors[f"{BODY}h.{index}.{ours}.{part}"]
                yield plain(f"blk.{index}.{theirs}.{part}", values.T)


def gpt_neox_parts(text: Config, config: Config, tensors: Tensors) -> Iterator[Part]:
    """GPT-NeoX's tensors; biases that it does without are zeros, since llama.cpp wants them."""
    yield from _outside(config, tensors, "embed_in", "final_layer_norm")
    heads = int(text["num_attention_heads"])
    for index in range(int(text["num_hidden_layers"])):
        for ours, theirs in NEOX_BLOCK.items():
            weight = tensors[f"{BODY}layers.{index}.{ours}.weight"]
            bias = tensors.get(f"{BODY}layers.{index}.{ours}.bias")
            if bias is None:
                bias = np.zeros(weight.shape[0], np.float32)
            for part, values in (("weight", weight), ("bias", bias)):
                name = f"blk.{index}.{theirs}.{part}"
                if theirs == "attn_qkv":
                    yield Part(name, values.shape, partial(thirds_together, values, heads))
                else:
                    yield plain(name, values)


def thirds_together(rows: Array, heads: int) -> Array:
    """Head by head query, key, value -> all queries, all keys, all values: (rows, ...)."""
    parted = np.asarray(rows).reshape(heads, 3, -1, *rows.shape[1:])
    return parted.swapaxes(0, 1).reshape(rows.shape)


def _outside(config: Config, tensors: Tensors, words: str, norm: str) -> Iterator[Part]:
    """Word embedding, head (a copy where they are one: not every version does without), norm."""
    table = tensors[f"{BODY}{words}.weight"]
    yield plain("token_embd.weight", table)
    yield plain("output.weight", table if is_tied(config, tensors) else tensors[HEAD])
    for part in ("weight", "bias"):
        yield plain(f"output_norm.{part}", tensors[f"{BODY}{norm}.{part}"])


def _check_activation(name: str) -> None:
    if name not in GELU:
        raise CheckpointError(
            f"config.json: the activation {name!r} of the language model cannot be exported for "
            "llama.cpp, which has GELU there."
        )
