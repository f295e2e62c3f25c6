"""LLaVA checkpoints that others made, which have no `neva.json`: what can be known of them.

The template comes from an explicit option, else from the checkpoint's own chat template: the one
that we would write there, else what its marks are like; without any it is LLaVA's "v1".
`template_source` says which. Never from a folder's name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neva.errors import CheckpointError
from neva.model.provenance import Aspect, Provenance, TemplateSource
from neva.model.reading import TOKENIZER, chat_template, image_processor
from neva.prompts import TEMPLATES, jinja_template

DEFAULT_TEMPLATE = "v1"

# What a family's chat template contains, the most telling first.
_MARKS: tuple[tuple[str, str], ...] = (
    ("<|start_header_id|>", "llama_3"),
    ("<|im_start|>", "chatml"),
    ("<extra_id_2>", "nvgpt"),
    ("<extra_id_1>", "nv_dpo"),
    ("<<SYS>>", "llama_2"),
    ("[INST]", "mistral"),
    ("###", "v0"),
    ("ASSISTANT:", "v1"),
)


def guess_provenance(folder: Path, config: Mapping[str, Any], template: str | None) -> Provenance:
    """Provenance of a checkpoint without `neva.json`; `template` is the user's word, if any."""
    name, source = _template(folder, config, template)
    act = config.get("projector_hidden_act", "gelu")
    return Provenance(
        stage="foreign",
        template=name,
        aspect=_aspect(folder),
        projector="mlp2x_gelu" if act == "gelu" else f"mlp2x_{act}",
        template_source=source,
    )


def check_template(name: str) -> None:
    """CheckpointError for a template that there is not."""
    if name not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise CheckpointError(f"There is no template {name!r}; choose one of: {known}.")


def image_token_id(config: Mapping[str, Any]) -> int:
    """The id whose places are filled with image features, as any version names it."""
    for name in ("image_token_index", "image_token_id"):
        if isinstance(found := config.get(name), int):
            return found
    return 32000


def _template(
    folder: Path, config: Mapping[str, Any], option: str | None
) -> tuple[str, TemplateSource]:
    if option is not None:
        check_template(option)
        return option, "option"
    text = chat_template(folder)
    if text and (ours := _ours(text, folder, config)):
        return ours, "chat template"
    like = likeness(text)
    return (like, "likeness") if like else (DEFAULT_TEMPLATE, "default")


def likeness(chat: str) -> str | None:
    """The template that a chat template's marks are like, if any."""
    return next((name for mark, name in _MARKS if mark in chat), None)


def _ours(text: str, folder: Path, config: Mapping[str, Any]) -> str | None:
    """The template whose chat template we would write for this tokenizer exactly so, if any."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        token = tokenizer.id_to_token(image_token_id(config))
    except Exception:  # the Rust library raises bare Exception; who needs the tokenizer will say so
        return None
    if token is None:
        return None
    for name, template in TEMPLATES.items():
        if jinja_template(template, tokenizer, token).strip() == text.strip():
            return name
    return None


def _aspect(folder: Path) -> Aspect:
    return "pad" if image_processor(folder).get("do_pad") else "square"
