"""`tokenizer.json` as llama.cpp's entries: tokens, merges, and how a text is split before merging.

A splitter that llama.cpp takes for another gives other ids without a word, so only those that were
compared with it are taken (`tests/deploy/test_gguf_llamacpp.py`), and everything else is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gguf import GGUFWriter, TokenType

from neva.deploy.gguf.sentencepiece import add_sentencepiece, is_sentencepiece
from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint
from neva.model.reading import TOKENIZER, read_json
from neva.model.shapes import text_config
from neva.prompts import stop_ids
from neva.prompts.encode import begin_text

State = Mapping[str, Any]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS: Mapping[str, tuple[str, bool]] = {
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_SYMBOLS}": (
        "llama-bpe",
        True,
    ),
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_SYMBOLS}": ("qwen2", False),
}
"""A splitter's pattern in tokenizer.json -> llama.cpp's name of it, and whether a word that is a
token stays whole whatever the merges say (`ignore_merges`)."""
ENDS = ("add_eos_token_id", "add_eot_token_id", "add_eom_token_id")
"""llama.cpp has three places for ids that end an answer."""


def add_tokenizer(writer: GGUFWriter, source: Checkpoint, rows: int) -> None:
    """Everything about the tokenizer, for an embedding of `rows`. CheckpointError: see above."""
    state = read_json(source.path / TOKENIZER)
    model = state.get("model") or {}
    if model.get("type") != "BPE":
        raise _refusal(source, f"its model is a {model.get('type')!r}, not BPE")
    _check_added(source, state)
    tokens, kinds = _tokens(source, state, rows)
    if is_sentencepiece(state):
        add_sentencepiece(writer, source, state, tokens, kinds)
    else:
        _add_bytes(writer, source, state)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    _add_ends(writer, source, rows)
    unread = [index for index, kind in enumerate(kinds) if kind == TokenType.UNUSED]
    writer.add_array("tokenizer.ggml.suppress_tokens", unread)


def _add_bytes(writer: GGUFWriter, source: Checkpoint, state: State) -> None:
    """A byte-level BPE: the splitter's name and the merges."""
    model = state["model"]
    pre, whole = _splitter(source, state)
    if bool(model.get("ignore_merges")) != whole:
        raise _refusal(source, f"llama.cpp's {pre!r} treats words that are tokens in another way")
    odd = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout")
    if named := [name for name in odd if model.get(name)]:
        raise _refusal(source, f"its model has {named[0]}")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    # one merge at least: llama.cpp asks for the list, and a list of none is not written
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_token_merges(merges or ["\u0120 \u0120"])


def _splitter(source: Checkpoint, state: State) -> tuple[str, bool]:
    """(llama.cpp's name of how texts are split, whether it ignores merges)."""
    if (state.get("normalizer") or {"type": "NFC"})["type"] != "NFC":
        raise _refusal(source, f"it normalises texts by {state['normalizer']['type']}")
    steps = list(_steps(state.get("pre_tokenizer") or {}))
    last = steps[-1] if steps else {}
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        raise _refusal(source, "it is no byte-level BPE without a space in front")
    before, alone = steps[:-1], last.get("use_regex", True)
    if alone and not before:
        return "gpt-2", False
    if alone and before == [{"type": "Digits", "individual_digits": True}]:
        return "smollm", False
    if not alone and len(before) == 1 and before[0]["type"] == "Split":
        split = before[0]
        found = SPLITS.get((split.get("pattern") or {}).get("Regex", ""))
        if found and split.get("behavior") == "Isolated" and not split.get("invert"):
            return found
    raise _refusal(source, "its way of splitting texts is not among those compared with llama.cpp")


def _steps(pre: State) -> Iterator[State]:
    if pre.get("type") == "Sequence":
        for step in pre["pretokenizers"]:
            yield from _steps(step)
    elif pre:
        yield pre


def _tokens(source: Checkpoint, state: State, rows: int) -> tuple[list[bytes], list[TokenType]]:
    """Every row's token and kind; rows without one get a name that no text has.

    The image's token is unused: llama.cpp puts pictures in its own way, and a user who types the
    token's name gets letters.
    """
    tokens = [f"[NEVA_UNUSED_{index}]".encode() for index in range(rows)]
    kinds = [TokenType.UNUSED] * rows
    special = {added["id"]: bool(added["special"]) for added in state["added_tokens"]}
    named = {index: token for token, index in state["model"]["vocab"].items()}
    named |= {added["id"]: added["content"] for added in state["added_tokens"]}
    if max(named) >= rows:
        raise _refusal(source, f"its token {max(named)} has no row in the embedding of {rows}")
    for index, token in named.items():
        tokens[index] = token.encode()
        if index == source.image_token_id:
            continue
        normal = index not in special
        marked = TokenType.CONTROL if special.get(index) else TokenType.USER_DEFINED
        kinds[index] = TokenType.NORMAL if normal else marked
    return tokens, kinds


def _check_added(source: Checkpoint, state: State) -> None:
    """CheckpointError for a marker that swallows the white space or the letters beside it."""
    for added in state["added_tokens"]:
        flags = ("lstrip", "rstrip", "single_word")
        named = [flag for flag in flags if added.get(flag)]
        if named and added["id"] != source.image_token_id:
            raise _refusal(source, f"its token {added['content']!r} has {named[0]}")


def _add_ends(writer: GGUFWriter, source: Checkpoint, rows: int) -> None:
    """Ids that begin and end texts; whether a text begins with one by itself."""
    first = stop_ids(source.template, source.tokenizer)
    ends = list(dict.fromkeys((*first, *source.stop_ids)))
    if not 0 < len(ends) <= len(ENDS):
        raise CheckpointError(
            f"{source.path}: {len(ends)} tokens end an answer, and GGUF has one to {len(ENDS)} "
            "places; mend eos_token_id in generation_config.json."
        )
    for add, end in zip(ENDS, ends, strict=False):
        getattr(writer, add)(end)
    begin = begin_text(source.tokenizer)
    start = source.tokenizer.token_to_id(begin) if begin else None
    if begin and start is None:
        raise _refusal(source, f"it begins every text with {begin!r}, which is not one token")
    said = text_config(source.config).get("bos_token_id")
    known = isinstance(said, int) and said < rows
    writer.add_bos_token_id(start if start is not None else said if known else ends[0])
    writer.add_add_bos_token(start is not None)
    writer.add_pad_token_id(ends[0])


def _refusal(source: Checkpoint, why: str) -> CheckpointError:
    return CheckpointError(
        f"{source.path / TOKENIZER}: this tokenizer cannot be exported for llama.cpp exactly: "
        f"{why}; serve the checkpoint with `neva serve`."
    )
