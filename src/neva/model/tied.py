"""Whether a checkpoint's output head is its word embedding, in what it says and in what it holds.

transformers 4.57 believes `text_config` alone; 5 ties only where the file brings no head of its
own. So both places must say the same, and what they say must be what the file holds.
"""

from collections.abc import Mapping
from typing import Any

from neva.model.keys import BODY, HEAD
from neva.model.shapes import says_tied

_EMBEDDINGS = tuple(f"{BODY}{name}.weight" for name in ("embed_tokens", "embed_in", "wte"))


def is_tied(config: Mapping[str, Any], tensors: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding: `config.json` says so, and no other head is there.

    `tensors` by disk name, numpy's or torch's; two of them are looked at, and only where
    `config.json` says that they are one.
    """
    if not says_tied(config):
        return False
    words = next((name for name in _EMBEDDINGS if name in tensors), None)
    if HEAD not in tensors or words is None:
        return HEAD not in tensors
    head, embedding = tensors[HEAD], tensors[words]
    return head.shape == embedding.shape and bool((head == embedding).all())


def saying_tied(config: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    """`config.json` that says it wherever a version of transformers looks."""
    text = {**(config.get("text_config") or {}), "tie_word_embeddings": tied}
    return {**config, "tie_word_embeddings": tied, "text_config": text}
