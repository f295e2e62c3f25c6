"""SentencePiece-like BPE (Llama 2's): merges told by the scores of what they make.

llama.cpp joins, among all neighbours that make a token, those whose token has the highest score;
`tokenizers` joins those whose pair is first in its list. The two are the same where every pair that
makes a token is in the list, and the pairs that make one token stand together. That is looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gguf import GGUFWriter, TokenType

from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint
from neva.model.reading import TOKENIZER
from neva.prompts.encode import begin_text

State = Mapping[str, Any]
SPACE = "▁"
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}


def is_sentencepiece(state: State) -> bool:
    """Whether bytes are tokens of their own, named <0x00> to <0xFF>."""
    return bool(state["model"].get("byte_fallback"))


def add_sentencepiece(
    writer: GGUFWriter,
    source: Checkpoint,
    state: State,
    tokens: Sequence[bytes],
    kinds: list[TokenType],
) -> None:
    """Scores and the space in front; `kinds` of bytes and of the unknown token are put right."""
    vocab: Mapping[str, int] = state["model"]["vocab"]
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    if any(name not in vocab for name in names):
        raise _refusal(source, "not every byte is a token of it")
    for name in names:
        kinds[vocab[name]] = TokenType.BYTE
    unknown = vocab.get(str(state["model"].get("unk_token")))
    if unknown is not None:
        kinds[unknown] = TokenType.UNKNOWN
        writer.add_unk_token_id(unknown)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_add_space_prefix(_space_in_front(source, state))
    scores = _scores(source, state, {index for index, kind in enumerate(kinds) if kind == 1})
    writer.add_token_scores([scores.get(index, 0.0) for index in range(len(tokens))])


def _space_in_front(source: Checkpoint, state: State) -> bool:
    """Whether every piece of text between markers gets a space in front; CheckpointError if else.

    Metaspace's "first" gives one to a text's very beginning only, where a begin token stands.
    """
    normal, pre = state.get("normalizer"), state.get("pre_tokenizer")
    if pre is None and normal == {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}:
        return True
    if pre is None and normal == REPLACE:
        return False
    meta = pre or {}
    plain = meta.get("type") == "Metaspace" and meta.get("replacement") == SPACE
    if plain and normal is None and meta.get("split") is False:
        scheme = meta.get("prepend_scheme")
        if scheme == "never" or (scheme == "first" and begin_text(source.tokenizer)):
            return False
    raise _refusal(source, "its way of marking spaces is none of Llama's")


def _scores(source: Checkpoint, state: State, normal: set[int]) -> dict[int, float]:
    """Every merged token's score by its id: the earlier its merges, the higher."""
    vocab: Mapping[str, int] = state["model"]["vocab"]
    pairs = [tuple(p.split(" ") if isinstance(p, str) else p) for p in state["model"]["merges"]]
    places = _places(pairs, lambda made: made)
    if places is None and _runs_grow(pairs):
        places = _places(pairs, lambda made: SPACE if set(made) == {SPACE} else made)
    if places is None:
        raise _refusal(source, "the merges that make one token do not stand together")
    _check_complete(source, vocab, set(pairs), normal)
    return {vocab[made]: -float(place) for made, place in places.items() if made in vocab}


def _places(pairs: Sequence[tuple[str, ...]], kind: Callable[[str], str]) -> dict[str, int] | None:
    """Merged token -> the place of its kind among all; None where a kind's merges are apart."""
    seen: dict[str, int] = {}
    found: dict[str, int] = {}
    last = ""
    for left, right in pairs:
        now = kind(left + right)
        if now != last and now in seen:
            return None
        found[left + right] = seen.setdefault(now, len(seen))
        last = now
    return found


def _runs_grow(pairs: Sequence[tuple[str, ...]]) -> bool:
    """Whether runs of spaces grow from the left, as they do by one score for all of them.

    Llama's runs have one score; `tokenizers` then has the merge with the longest left first.
    """
    runs = [(len(left), len(right)) for left, right in pairs if set(left + right) == {SPACE}]
    return runs == sorted(runs, reverse=True)


def _check_complete(
    source: Checkpoint, vocab: Mapping[str, int], pairs: set[tuple[str, ...]], normal: set[int]
) -> None:
    """CheckpointError where two tokens make a third, but by no merge: llama.cpp would join them."""
    for token, index in vocab.items():
        if index not in normal:
            continue
        for cut in range(1, len(token)):
            half = (token[:cut], token[cut:])
            if all(vocab.get(part) in normal for part in half) and half not in pairs:
                raise _refusal(source, f"{half[0]!r} and {half[1]!r} make a token, but no merge")


def _refusal(source: Checkpoint, why: str) -> CheckpointError:
    return CheckpointError(
        f"{source.path / TOKENIZER}: this tokenizer cannot be exported for llama.cpp exactly: "
        f"{why}; serve the checkpoint with `neva serve`."
    )
