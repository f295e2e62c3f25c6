"""A LLaVA checkpoint (llama + CLIP) as llama.cpp's two files: the LM's GGUF and the mmproj.

llama.cpp's own converter is in no package, so it is written out here with the `gguf` package:
names, the order of rotary rows, the tokenizer, CLIP's tower.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize

from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.keys import BODY, HEAD, PROJECTOR, VISION
from neva.model.shapes import text_config, vision_config

KINDS = {
    "f32": GGMLQuantizationType.F32,
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
}
PRE = "smollm"  # which of llama.cpp's splitters the tokenizer is
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
TOWER = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_down",  # llama.cpp has the two names of CLIP's tower swapped
    "mlp.fc2": "ffn_up",
}


def convert(path: Path, out: Path, kind: str = "q8_0") -> tuple[Path, Path]:
    """(LM file, mmproj file) under `out`, made if they are not there."""
    lm, mmproj = out / f"{path.name}-{kind}.gguf", out / f"{path.name}-mmproj-f16.gguf"
    checkpoint = Checkpoint.open(path)
    for file, write in ((lm, _language), (mmproj, _vision)):
        if not file.exists():
            aside = file.with_suffix(".part")
            write(checkpoint, read_tensors(checkpoint), aside, KINDS[kind])
            aside.rename(file)
    return lm, mmproj


def _language(checkpoint: Checkpoint, tensors: Any, file: Path, kind: Any) -> None:
    text = text_config(checkpoint.config)
    heads, kv_heads = int(text["num_attention_heads"]), int(text["num_key_value_heads"])
    rope = text.get("rope_parameters") or {}
    writer = GGUFWriter(file, "llama")
    writer.add_name(checkpoint.path.name)
    writer.add_context_length(int(text["max_position_embeddings"]))
    writer.add_embedding_length(int(text["hidden_size"]))
    writer.add_block_count(int(text["num_hidden_layers"]))
    writer.add_feed_forward_length(int(text["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(int(text["head_dim"]))
    writer.add_rope_freq_base(float(rope.get("rope_theta") or text["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(text["rms_norm_eps"]))
    rows = tensors[f"{BODY}embed_tokens.weight"].shape[0]
    writer.add_vocab_size(rows)
    _vocabulary(checkpoint, rows, writer)
    _add(writer, "token_embd.weight", tensors[f"{BODY}embed_tokens.weight"], kind)
    _add(writer, "output_norm.weight", tensors[f"{BODY}norm.weight"], KINDS["f32"])
    if HEAD in tensors:
        _add(writer, "output.weight", tensors[HEAD], kind)
    for index in range(int(text["num_hidden_layers"])):
        for ours, theirs in BLOCK.items():
            values = np.asarray(tensors[f"{BODY}layers.{index}.{ours}.weight"], np.float32)
            if theirs in ("attn_q", "attn_k"):
                values = _pairs_together(values, heads if theirs == "attn_q" else kv_heads)
            _add(writer, f"blk.{index}.{theirs}.weight", values, kind)
    _finish(writer)


def _pairs_together(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rotary halves as Hugging Face has them -> interleaved pairs as llama.cpp has them."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _vocabulary(checkpoint: Checkpoint, rows: int, writer: GGUFWriter) -> None:
    """A byte-level BPE tokenizer, padded to the embedding's rows, and the chat template."""
    spec = json.loads((checkpoint.path / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [f"[PAD{index}]".encode() for index in range(rows)]
    kinds = [TokenType.UNUSED] * rows
    for token, index in spec["model"]["vocab"].items():
        tokens[index], kinds[index] = token.encode(), TokenType.NORMAL
    for added in spec["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"].encode(), kind
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    end = max(checkpoint.stop_ids)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    jinja = (checkpoint.path / "chat_template.jinja").read_text(encoding="utf-8")
    writer.add_chat_template(jinja)


def _vision(checkpoint: Checkpoint, tensors: Any, file: Path, _: Any) -> None:
    vision, text = vision_config(checkpoint.config), text_config(checkpoint.config)
    writer = GGUFWriter(file, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(int(vision["image_size"]))
    writer.add_vision_patch_size(int(vision["patch_size"]))
    writer.add_vision_embedding_length(int(vision["hidden_size"]))
    writer.add_vision_feed_forward_length(int(vision["intermediate_size"]))
    writer.add_vision_block_count(int(vision["num_hidden_layers"]))  # it takes the last but one
    writer.add_vision_head_count(int(vision["num_attention_heads"]))
    writer.add_vision_attention_layernorm_eps(float(vision["layer_norm_eps"]))
    writer.add_vision_projection_dim(int(text["hidden_size"]))
    writer.add_vision_image_mean(list(checkpoint.pixels.mean))
    writer.add_vision_image_std(list(checkpoint.pixels.std))
    writer.add_vision_use_gelu(vision["hidden_act"] == "gelu")
    f16, f32 = GGMLQuantizationType.F16, KINDS["f32"]

    def put(theirs: str, ours: str, kind: Any = f32) -> None:
        _add(writer, theirs, np.asarray(tensors[ours], np.float32), kind)

    put("v.class_embd", f"{VISION}embeddings.class_embedding")
    put("v.patch_embd.weight", f"{VISION}embeddings.patch_embedding.weight", f16)
    put("v.position_embd.weight", f"{VISION}embeddings.position_embedding.weight")
    for part in ("weight", "bias"):
        put(f"v.pre_ln.{part}", f"{VISION}pre_layrnorm.{part}")
        for index in range(int(vision["num_hidden_layers"])):
            for ours, theirs in TOWER.items():
                kind = f16 if part == "weight" and not ours.startswith("layer") else f32
                name = f"{VISION}encoder.layers.{index}.{ours}.{part}"
                put(f"v.blk.{index}.{theirs}.{part}", name, kind)
        for number, ours in ((0, "linear_1"), (2, "linear_2")):
            kind = f16 if part == "weight" else f32
            put(f"mm.{number}.{part}", f"{PROJECTOR}{ours}.{part}", kind)
    _finish(writer)


def _add(writer: GGUFWriter, name: str, values: Any, kind: Any) -> None:
    """Vectors stay float32; a matrix whose rows do not fit the blocks does as well."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.ndim == 1 or (kind == KINDS["q8_0"] and values.shape[-1] % 32):
        kind = KINDS["f32"]
    writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)


def _finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
