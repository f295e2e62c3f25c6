"""LLaVA checkpoints that others made, which have no `neva.json`: what can be known of them.

The template comes from an explicit option, else from what the checkpoint's own chat template
contains, else it is LLaVA's "v1"; `template_source` says which. Never from a folder's name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neva.errors import CheckpointError
from neva.model.provenance import Aspect, Provenance, TemplateSource

DEFAULT_TEMPLATE = "v1"

# What only one template's chat template contains, the most telling first.
_MARKS: tuple[tuple[str, str], ...] = (
    ("<|start_header_id|>", "llama_3"),
    ("<|im_start|>", "chatml"),
    ("<extra_id_2>", "nvgpt"),
    ("<extra_id_1>", "nv_dpo"),
    ("[INST]", "llama_2"),
    ("###", "v0"),
    ("ASSISTANT:", "v1"),
)


def guess_provenance(folder: Path, config: Mapping[str, Any], template: str | None) -> Provenance:
    """Provenance of a checkpoint without `neva.json`; `template` is the user's word, if any."""
    name, source = _template(folder, template)
    act = config.get("projector_hidden_act", "gelu")
    return Provenance(
        stage="foreign",
        template=name,
        aspect=_aspect(folder),
        projector="mlp2x_gelu" if act == "gelu" else f"mlp2x_{act}",
        template_source=source,
    )


def _template(folder: Path, option: str | None) -> tuple[str, TemplateSource]:
    if option is not None:
        return option, "option"
    text = _chat_template(folder)
    for mark, name in _MARKS:
        if mark in text:
            return name, "chat template"
    return DEFAULT_TEMPLATE, "default"


def _chat_template(folder: Path) -> str:
    """The chat template's text, from any of the three places where transformers has put it."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _json(folder / name).get("chat_template")
        if isinstance(found, str):
            return found
    return ""


def _aspect(folder: Path) -> Aspect:
    return "pad" if _json(folder / "preprocessor_config.json").get("do_pad") else "square"


def _json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy it again.") from error
    return record if isinstance(record, dict) else {}
