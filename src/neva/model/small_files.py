"""All files of a new checkpoint but weights and `neva.json`, in forms that every reader knows.

transformers 5 saves tokenizer and processor in forms that 4.57 cannot read; what is carried from
checkpoint to checkpoint is mended on the way, and speaks of the template that `neva.json` names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint
from neva.model.config import readable_by_all
from neva.model.files import carry_files, write_json
from neva.model.reading import (
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_BEFORE,
    CONFIG,
    PREPROCESSOR,
    TOKENIZER_CONFIG,
    chat_template,
    image_processor,
    read_json_if_there,
)
from neva.model.tied import saying_tied
from neva.prompts import TEMPLATES, jinja_template, stop_ids

GENERATION = "generation_config.json"
PLAIN_CLASS = "PreTrainedTokenizerFast"
OWN_WORD = ("option", "default")
"""Sources of a template that the checkpoint's own files say nothing of."""


def write_small_files(
    source: Checkpoint, folder: Path, tied: bool, template: str, dtype: str | None = None
) -> None:
    """Write into `folder` what `source` has, for weights whose head is `tied` to the words or not.

    `template` is the new checkpoint's; where the source's files do not speak it they will.
    """
    carry_files(source.path, folder)
    write_json(folder / CONFIG, readable_by_all(saying_tied(source.config, tied), dtype))
    write_json(folder / PREPROCESSOR, image_processor(source.path))
    record = read_json_if_there(folder / TOKENIZER_CONFIG)
    if record:
        write_json(folder / TOKENIZER_CONFIG, _readable_tokenizer(record))
    origin = source.provenance
    dumb = not chat_template(source.path)
    if dumb or template != origin.template or origin.template_source in OWN_WORD:
        _speak(source, folder, template)


def _readable_tokenizer(record: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json as 4.57 knows it; `tokenizer.json` says all the rest."""
    mended = dict(record)
    if mended.get("tokenizer_class") == "TokenizersBackend":
        mended["tokenizer_class"] = PLAIN_CLASS
    extra = mended.get("extra_special_tokens")
    if isinstance(extra, list):  # 5 writes a list of texts, 4.57 wants names of attributes
        named = mended.pop("model_specific_special_tokens", None) or {}
        mended["extra_special_tokens"] = named
        more = [*(mended.get("additional_special_tokens") or ()), *extra]
        texts = (one["content"] if isinstance(one, dict) else one for one in more)
        mended["additional_special_tokens"] = list(dict.fromkeys(texts))
    return mended


def _speak(source: Checkpoint, folder: Path, name: str) -> None:
    """Chat template and ids that end an answer, of the template called so."""
    if name not in TEMPLATES:
        raise CheckpointError(f"{source.path}: unknown template {name!r}.")
    template, tokenizer = TEMPLATES[name], source.tokenizer
    token = tokenizer.id_to_token(source.image_token_id)
    if token is None:
        raise CheckpointError(
            f"{source.path}: its tokenizer has no token {source.image_token_id}, which "
            f"{CONFIG} says is the image's; the two files do not belong together."
        )
    chat = jinja_template(template, tokenizer, token)
    (folder / CHAT_TEMPLATE).write_text(chat, encoding="utf-8")
    (folder / CHAT_TEMPLATE_BEFORE).unlink(missing_ok=True)
    # without a class transformers 4.57 takes Llama's
    record = read_json_if_there(folder / TOKENIZER_CONFIG) or {"tokenizer_class": PLAIN_CLASS}
    write_json(folder / TOKENIZER_CONFIG, {**record, "chat_template": chat})
    ends = sorted({*source.eos_ids, *stop_ids(template, tokenizer)})
    generation = read_json_if_there(folder / GENERATION)
    write_json(folder / GENERATION, {**generation, "eos_token_id": ends})
