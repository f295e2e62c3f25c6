"""Conversation -> token ids and supervised mask. Training, engines and the chat template agree.

The whole text is tokenised in one go, exactly as a tokenizer reads a rendered chat template, so
that no seam between pieces changes a token. Two things come from construction, not from searching
the result: which tokens are targets (the tokenizer's offsets against the pieces' places), and which
are special. For the latter the tokenizer is copied with its special tokens renamed to unguessable
names, and only the template's own pieces and images are written with those names. A user who types
"<image>" or "<|im_end|>" gets letters, even where such a name stands in the model's vocabulary.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

from neva.errors import PromptError
from neva.prompts.conversation import Conversation, ImageSlot, Turn
from neva.prompts.render import Piece, render
from neva.prompts.templates import Template


@dataclass(frozen=True)
class Encoded:
    """One conversation as T tokens, images expanded."""

    ids: tuple[int, ...]
    """(T,) token ids; an image is P copies of the image token's id."""
    supervised: tuple[bool, ...]
    """(T,) True: this token is a target (the assistant's text and its end)."""
    images: tuple[int, ...]
    """Where each image starts, in the order of the conversation's slots."""

    def __len__(self) -> int:
        return len(self.ids)


def encode(
    conversation: Conversation,
    template: Template,
    tokenizer: Tokenizer,
    image_token_id: int,
    image_tokens: int,
    answer: bool = False,
) -> Encoded:
    """Encode a conversation; with `answer`, up to where the model goes on (see `render`).

    `image_tokens` is P. Raises PromptError if turns do not alternate or text is not Unicode.
    """
    book = _codebook(tokenizer, _markers(tokenizer, _literal(template)), image_token_id)
    text, targets = _write(render(conversation, template, answer), book)
    encoding = book.tokenizer.encode(text, add_special_tokens=False)
    ids: list[int] = []
    supervised: list[bool] = []
    images: list[int] = []
    for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        token = book.ids.get(token, token)
        if token == image_token_id:
            images.append(len(ids))
        copies = image_tokens if token == image_token_id else 1
        ids.extend([token] * copies)
        supervised.extend([any(targets[start : max(end, start + 1)])] * copies)
    return Encoded(tuple(ids), tuple(supervised), tuple(images))


def truncate(encoded: Encoded, max_length: int, image_tokens: int) -> Encoded:
    """Shorten to at most `max_length` tokens, from the end.

    Cuts after the last answer that fits whole; if none does, at the limit, but before an image
    that would be cut. The result may have no supervised token left: the caller must look.
    """
    if len(encoded) <= max_length:
        return encoded
    targets = encoded.supervised
    ends = (t for t in range(max_length, 0, -1) if targets[t - 1] and not targets[t])
    cut = next(ends, 0)
    if not cut:
        inside = (start for start in encoded.images if start < max_length < start + image_tokens)
        cut = next(inside, max_length)
    images = tuple(start for start in encoded.images if start < cut)
    return Encoded(encoded.ids[:cut], targets[:cut], images)


def fits(template: Template, tokenizer: Tokenizer, image_token_id: int) -> bool:
    """Whether the tokenizer keeps the seam between the template's header and an answer.

    False means that the model would be asked at another token than where it is taught to answer:
    a template whose header ends in two line ends does not suit GPT-2's way of splitting them.
    """
    question = Turn("user", (ImageSlot(0), "\nWhat is this?"))
    for text in ("A cat.", "two cats", "42"):
        told = Conversation((question, Turn("assistant", (text,))))
        asked = encode(Conversation((question,)), template, tokenizer, image_token_id, 1, True)
        taught = encode(told, template, tokenizer, image_token_id, 1)
        if taught.supervised.index(True) != len(asked) or taught.ids[: len(asked)] != asked.ids:
            return False
    return True


def begin_text(tokenizer: Tokenizer) -> str:
    """What the tokenizer itself puts in front of every text, as text: "<s>" for Llama, else ""."""
    probe = tokenizer.encode("a")
    text = ""
    for token, special in zip(probe.tokens, probe.special_tokens_mask, strict=True):
        if not special:
            break
        text += token
    return text


def stop_ids(template: Template, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of the template's stop strings that are tokens of their own."""
    added = {token.content: id for id, token in tokenizer.get_added_tokens_decoder().items()}
    return tuple(added[stop] for stop in template.stop if stop in added)


@dataclass(frozen=True)
class _Codebook:
    """A tokenizer whose special tokens answer to secret names only."""

    tokenizer: Tokenizer
    names: Mapping[str, str]  # public name -> secret name
    ids: Mapping[int, int]  # the copy's id -> the tokenizer's, where they differ
    image: str  # secret name of the image token
    begin: str
    pattern: re.Pattern[str]  # finds public names in a template's own text

    def seal(self, text: str) -> str:
        """A template's own text, its special tokens under their secret names."""
        return self.pattern.sub(lambda found: self.names[found[0]], text)


def _write(pieces: tuple[Piece, ...], book: _Codebook) -> tuple[str, bytearray]:
    """The text for the copied tokenizer and, per character, whether it is a target."""
    texts = [book.begin]
    targets = bytearray(len(book.begin))
    for piece in pieces:
        if isinstance(piece.part, ImageSlot):
            text = book.image
        else:
            text = book.seal(piece.part) if piece.ours else valid(piece.part)
        texts.append(text)
        targets.extend(bytes([piece.supervised]) * len(text))
    return "".join(texts), targets


def valid(text: str) -> str:
    """The text, if it is Unicode; PromptError if not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PromptError(
            "a text holds half of a surrogate pair, which is not a character; send valid Unicode"
        ) from None
    return text


@lru_cache(maxsize=32)
def _markers(tokenizer: Tokenizer, literal: str) -> frozenset[str]:
    """Added tokens that a template writes although the tokenizer does not call them special."""
    added = tokenizer.get_added_tokens_decoder().values()
    plain = (token.content for token in added if not token.special)
    return frozenset(content for content in plain if content.strip() and content in literal)


@lru_cache(maxsize=16)
def _codebook(tokenizer: Tokenizer, markers: frozenset[str], image_token_id: int) -> _Codebook:
    """Copy a tokenizer with its special tokens renamed. Half a second for a large vocabulary."""
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    nonce = secrets.token_hex(16)
    names: dict[str, str] = {}
    originals: dict[str, int] = {}
    for added in state["added_tokens"]:
        content = added["content"]
        if added["special"] or added["id"] == image_token_id or content in markers:
            secret = f"\ufdd0{nonce}-{added['id']}\ufdd1"
            names[content], originals[secret] = secret, added["id"]
            added["content"] = secret
    image = next((name for name, id in originals.items() if id == image_token_id), None)
    if image is None:
        raise PromptError(
            f"the tokenizer has no added token with id {image_token_id}, the image token's id; "
            "compose the checkpoint again so that its tokenizer knows the image token"
        )
    _rename_vocabulary(state["model"], names)
    state.update(truncation=None, padding=None, post_processor=None)
    copy = Tokenizer.from_str(json.dumps(state))
    moved = ((copy.token_to_id(secret), id) for secret, id in originals.items())
    ids = {new: old for new, old in moved if new is not None and new != old}
    longest_first = sorted(names, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    begin = pattern.sub(lambda found: names[found[0]], begin_text(tokenizer))
    return _Codebook(copy, names, ids, image, begin, pattern)


def _literal(template: Template) -> str:
    """All that a template itself writes, for looking up markers; pieces kept apart."""
    fixed = (template.bare, template.first_user, template.next_user, template.after_user)
    around = (*template.opening, *(template.label or ()))
    answer = (template.reply, template.lead, template.end, template.after)
    return "\x00".join((*fixed, *around, *answer))


def _rename_vocabulary(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename the entries of special tokens, lest the model itself finds them in a user's text."""
    renamed = {name: new for name, new in names.items() if name != model.get("unk_token")}
    vocab = model["vocab"]
    if isinstance(vocab, list):  # Unigram: [piece, score]; its unk is named by position
        model["vocab"] = [[renamed.get(piece, piece), score] for piece, score in vocab]
        return
    model["vocab"] = {renamed.get(piece, piece): id for piece, id in vocab.items()}
    if "merges" in model:
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if renamed.keys().isdisjoint((left, right, left + right))
        ]
