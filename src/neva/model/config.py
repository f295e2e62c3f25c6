"""`config.json` that every version reads: newer and older names of the same numbers, both written.

transformers 5 keeps RoPE's numbers in `rope_parameters`, and writes nothing else; 4.57 and several
engines look for `rope_theta` and its like, and where they find none compute with a default, without
a word. So both are written. The same goes for `dtype` and `torch_dtype`.
"""

import copy
from collections.abc import Mapping
from typing import Any

# GPT-NeoX's own names of what others call rope_theta and partial_rotary_factor.
_NEOX = (("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct"))


def readable_by_all(config: Mapping[str, Any], dtype: str | None = None) -> dict[str, Any]:
    """A copy of a LLaVA `config.json` with both namings; `dtype` None keeps what it says."""
    full: dict[str, Any] = copy.deepcopy(dict(config))
    kind = dtype or full.get("dtype") or full.get("torch_dtype")
    for part in (full, full.get("text_config"), full.get("vision_config")):
        if part is not None and kind is not None:
            part["dtype"] = part["torch_dtype"] = kind
    if full.get("text_config"):
        _name_rope(full["text_config"])
    return full


def _name_rope(text: dict[str, Any]) -> None:
    """Add the older names of `rope_parameters`, in place; nothing to do where there are none."""
    rope = text.get("rope_parameters")
    if not rope or "rope_theta" not in rope:
        return
    plain = rope.get("rope_type", "default") == "default"
    text["rope_scaling"] = None if plain else rope
    older = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    if text.get("model_type") == "gpt_neox":
        older |= {own: older[common] for common, own in _NEOX if common in older}
    text.update(older)
