"""How each token is spelled in bytes: for log probabilities, and for grammars.

A tokenizer writes bytes in one of two ways: byte-level BPE has a letter for every byte,
SentencePiece's kind writes a space as U+2581 and a byte without a letter as `<0x0A>`.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"


@cache
def byte_letters() -> dict[str, int]:
    """Byte-level BPE's alphabet: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def spellings(tokenizer: Tokenizer) -> tuple[bytes, ...] | None:
    """The bytes of every token, in the order of ids; b"" for special tokens and gaps.

    None for a tokenizer of another kind, whose tokens are no bytes (WordPiece).
    """
    kinds = set(_kinds(tokenizer))
    words = tokenizer.get_vocab(with_added_tokens=True)
    if "ByteLevel" in kinds:
        spell = _byte_level("".join(words))
    elif kinds & {"ByteFallback", "Metaspace"}:
        spell = _sentence_piece
    else:
        return None
    added = tokenizer.get_added_tokens_decoder()
    made = [b""] * tokenizer.get_vocab_size(with_added_tokens=True)
    for text, token in words.items():
        if token >= len(made):
            made.extend([b""] * (token + 1 - len(made)))
        if token not in added:
            made[token] = spell(text)
        elif not added[token].special:
            made[token] = text.encode()
    return tuple(made)


def _kinds(tokenizer: Tokenizer) -> Iterator[str]:
    """The names of the tokenizer's decoders."""
    if tokenizer.decoder is None:
        return
    waiting: list[dict[str, Any]] = [json.loads(tokenizer.decoder.__getstate__())]
    while waiting:
        state = waiting.pop()
        waiting.extend(state.get("decoders", ()))
        yield str(state["type"])


def _byte_level(all_letters: str) -> Callable[[str], bytes]:
    """Spells tokens that have no other letters than these; one with a letter that stands for no
    byte is spelled as itself."""
    table = str.maketrans({letter: chr(byte) for letter, byte in byte_letters().items()})
    strange = set(all_letters).difference(byte_letters())

    def spell(text: str) -> bytes:
        if strange and not strange.isdisjoint(text):
            return text.encode()
        return text.translate(table).encode("latin-1")

    return spell


def _sentence_piece(text: str) -> bytes:
    byte = _BYTE.fullmatch(text)
    return bytes.fromhex(byte[1]) if byte else text.replace(_SPACE, " ").encode()
