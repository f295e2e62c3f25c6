"""The language model of an import: its configuration and tokenizer, and where it is needed itself.

Four families, whose tensors go by the same names in Hugging Face's files and in LLaVA's.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from neva.errors import CheckpointError
from neva.model.importing.folder import files_of_weights, folder_tensors, local_folder
from neva.model.importing.found import Voice
from neva.model.importing.raw import Raw
from neva.model.keys import BODY, HEAD
from neva.model.language import SPECIAL, raw_tokenizer, read_part
from neva.model.reading import read_json_if_there
from neva.model.rewrite import SILENT
from neva.model.source import part_config

FAMILIES = ("llama", "mistral", "nemotron", "qwen2")
_TOKENIZER = (
    "give the language model by --language: a directory or hub name with its tokenizer.json"
)


def language_config(source: str) -> Any:
    """The configuration of a language model of a family that can be imported."""
    folder = local_folder(source)
    config = read_part(source, AutoConfig, {"pretrained_model_name_or_path": str(folder)})
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f"{source}: a {config.model_type!r} language model cannot be imported; these families "
            f"can: {', '.join(FAMILIES)}."
        )
    return config


def read_voice(source: str, config: Any) -> Voice:
    """The tokenizer at `source` and what ends an answer, for an LM of this configuration."""
    where = {"pretrained_model_name_or_path": source}
    try:
        tokenizer = read_part(source, AutoTokenizer, where, config=config)
        raw = raw_tokenizer(source, tokenizer, where)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{source}: cannot be read as a language model: ")
        if (local_folder(source) / "tokenizer.model").is_file():
            reason = "it is sentencepiece's, which needs that library: pip install "
            reason += "'neva-vlm[import]'"
        raise CheckpointError(
            f"{source}: its tokenizer cannot be read ({reason.rstrip('.')}); {_TOKENIZER}."
        ) from error
    chat = getattr(tokenizer, "chat_template", None)
    generation = read_json_if_there(local_folder(source) / "generation_config.json")
    ends: set[int] = set()
    for ids in (config.eos_token_id, generation.get("eos_token_id"), tokenizer.eos_token_id):
        ends.update([ids] if isinstance(ids, int) else ids or ())
    return Voice(
        source=source,
        config=part_config(config.to_dict()),
        tokenizer=raw,
        special={name: getattr(tokenizer, name) for name in SPECIAL if getattr(tokenizer, name)},
        eos_ids=tuple(sorted(ends)),
        chat_template=chat if isinstance(chat, str) else "",
    )


def language_tensors(source: str) -> tuple[dict[str, Raw], tuple[Path, ...]]:
    """Body and head of a Hugging Face LM by disk names, and the files that they come from."""
    folder = local_folder(source)
    found: dict[str, Raw] = {}
    for name, raw in folder_tensors(folder).items():
        if ours := language_name(name):
            found[ours] = raw
        elif not name.endswith(SILENT):
            raise CheckpointError(f"{raw.place} is no tensor of a language model that neva knows.")
    return found, files_of_weights(folder)


def language_name(name: str) -> str | None:
    """The disk name of a tensor of a Hugging Face LM of these families; None for another's."""
    if name == "lm_head.weight":
        return HEAD
    known = name.startswith(("model.embed_tokens.", "model.layers.", "model.norm."))
    return BODY + name.removeprefix("model.") if known and not name.endswith(SILENT) else None
