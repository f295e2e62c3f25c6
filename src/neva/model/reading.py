"""The JSON files of a checkpoint's folder, and the one that says how pictures become pixels."""

import json
from pathlib import Path
from typing import Any

from neva.errors import CheckpointError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
CHAT_TEMPLATE_BEFORE = "chat_template.json"
"""Where older releases of transformers put a processor's."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError for a file that is missing or holds something else."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "copy it again from where the rest is from."
        if file.name == CONFIG:
            remedy = "a checkpoint is a Hugging Face LLaVA directory, as `neva compose` makes one."
        raise CheckpointError(f"{file.parent}: {file.name} is missing; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy it again.") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: not a JSON object; copy it again.")
    return record


def read_json_if_there(file: Path) -> dict[str, Any]:
    """As `read_json`, and an empty object where there is no such file."""
    return read_json(file) if file.is_file() else {}


def image_processor(folder: Path) -> dict[str, Any]:
    """The image processor's record: a file of its own or, as transformers 5 saves it, a part.

    CheckpointError where it is in neither place.
    """
    if (folder / PREPROCESSOR).is_file():
        return read_json(folder / PREPROCESSOR)
    part = read_json_if_there(folder / PROCESSOR).get("image_processor")
    if isinstance(part, dict):
        return part
    raise CheckpointError(
        f"{folder}: {PREPROCESSOR} is missing, and {PROCESSOR} has no image_processor; save the "
        "processor beside the model (`processor.save_pretrained`)."
    )


def chat_template(folder: Path) -> str:
    """The chat template's text, from any of the three places where transformers has put it."""
    if (folder / CHAT_TEMPLATE).is_file():
        return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    for name in (CHAT_TEMPLATE_BEFORE, TOKENIZER_CONFIG):
        found = read_json_if_there(folder / name).get("chat_template")
        if isinstance(found, str):
            return found
    return ""
