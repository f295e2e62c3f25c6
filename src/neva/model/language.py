"""Read the language model that a checkpoint is composed from: weights, config and tokenizer.

A directory, a hub name or a GGUF file; the families that LLaVA's class in transformers can carry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from neva.errors import CheckpointError
from neva.model.keys import BODY, HEAD
from neva.model.quiet import quiet_transformers
from neva.model.source import check_source, part_config, why

FAMILIES = ("llama", "nemotron", "mistral", "gpt_neox", "gpt2", "qwen2")

# transformers ties LLaVA's head to `embed_tokens`; these families call it otherwise, so their
# head is written out as a tensor of its own, with the same values.
UNTIED = ("gpt_neox", "gpt2")

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Language:
    """A causal LM, taken apart. `tensors` go by disk names; `head_tied` leaves HEAD out of them."""

    source: str
    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    embedding: str  # disk name of the word embedding, (V, D)
    tokenizer: Tokenizer
    special: Mapping[str, str]  # "eos_token" -> its text, for those that the tokenizer has
    eos_ids: tuple[int, ...]

    @property
    def tied(self) -> bool:
        """Whether the head is the word embedding."""
        return HEAD not in self.tensors


def read_language(source: str | Path, dtype: torch.dtype) -> Language:
    """Read a causal LM; CheckpointError for an unsupported family or an unreadable source."""
    check_source(source)
    where = _locate(source)
    config = read_part(source, AutoConfig, where)
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f"{source}: a {config.model_type!r} language model cannot be composed; "
            f"these families can: {', '.join(FAMILIES)}."
        )
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if "gguf_file" not in where:
        options["use_safetensors"] = True  # never a pickle
    model, report = read_part(source, AutoModelForCausalLM, where, **options)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{source}: {len(missing)} tensors are missing, first {missing[0]}; copy it again."
        )
    tokenizer = read_part(source, AutoTokenizer, where)
    tensors = {BODY + name: tensor for name, tensor in model.base_model.state_dict().items()}
    head, words = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    tied = head.data_ptr() == words.data_ptr()
    if not tied or config.model_type in UNTIED:
        tensors[HEAD] = head.detach()
    return Language(
        source=str(source),
        config={**part_config(model.config.to_dict()), "tie_word_embeddings": HEAD not in tensors},
        tensors=tensors,
        embedding=next(name for name, t in tensors.items() if t.data_ptr() == words.data_ptr()),
        tokenizer=raw_tokenizer(source, tokenizer, where),
        special={name: getattr(tokenizer, name) for name in SPECIAL if getattr(tokenizer, name)},
        eos_ids=_eos_ids(model, tokenizer),
    )


def _locate(source: str | Path) -> dict[str, Any]:
    """Arguments of `from_pretrained`: a GGUF file is named apart from its folder."""
    path = Path(source)
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(source)}


def read_part(source: str | Path, kind: Any, where: Mapping[str, Any], **options: Any) -> Any:
    """`from_pretrained` whose many kinds of failure are one CheckpointError.

    A model's own Python is never run, and nobody is asked whether it may.
    """
    try:
        with quiet_transformers():
            return kind.from_pretrained(**where, **options, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RecursionError) as error:
        reason = why(source, error)
        raise CheckpointError(f"{source}: cannot be read as a language model: {reason}") from error


def raw_tokenizer(source: str | Path, tokenizer: Any, where: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer as its makers saved it, else as transformers converts it."""
    if "gguf_file" not in where:
        file = cached_file(
            str(source), "tokenizer.json", _raise_exceptions_for_missing_entries=False
        )
        if file is not None:
            return Tokenizer.from_file(file)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"{source}: it has no fast tokenizer; save one as tokenizer.json.")
    return Tokenizer.from_str(backend.to_str())


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    found: set[int] = set()
    for ids in (
        model.config.eos_token_id,
        model.generation_config.eos_token_id,
        tokenizer.eos_token_id,
    ):
        found.update([ids] if isinstance(ids, int) else ids or ())
    return tuple(sorted(found))
