"""How far back a language model's attention reaches, told by `config.json` alone.

Of the file as it is, and not of `text_config`, which fills in defaults: a null there means that
there is no window, where a key that is missing means the family's own.
"""

from collections.abc import Mapping
from typing import Any

_DEFAULT = 4096  # MistralConfig's and Qwen2Config's own, where config.json says nothing


def sliding_window(config: Mapping[str, Any]) -> int | None:
    """The window's tokens, as transformers reads all of `config.json`; None: all of the context.

    mistral has one unless it is null, qwen2 only where `use_sliding_window` is on, others none.
    """
    text = config.get("text_config") or {}
    family = text.get("model_type")
    slides = family == "mistral" or (family == "qwen2" and text.get("use_sliding_window"))
    found = text.get("sliding_window", _DEFAULT) if slides else None
    return None if found is None else int(found)
