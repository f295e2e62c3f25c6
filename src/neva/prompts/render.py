"""A conversation as the pieces of text that a template makes of it, in order of writing.

Pieces say who wrote them: a template's own markers may be special tokens, a user's text never.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neva.errors import PromptError
from neva.prompts.conversation import Conversation, ImageSlot, Part, Turn
from neva.prompts.templates import Template


@dataclass(frozen=True)
class Piece:
    """`ours`: written by the template. `supervised`: a target of training."""

    part: Part
    ours: bool = False
    supervised: bool = False


def render(
    conversation: Conversation, template: Template, answer: bool = False
) -> tuple[Piece, ...]:
    """The conversation's pieces; with `answer`, up to the point where the model goes on.

    That point is after the assistant's header, or inside a trailing assistant's turn.
    """
    _check_turns(conversation.turns)
    return tuple(piece for piece in _pieces(conversation, template, answer) if piece.part != "")


def text_of(pieces: tuple[Piece, ...], image: str = "<image>") -> str:
    """The pieces as one text with `image` for every image: for people and for tests."""
    return "".join(image if isinstance(p.part, ImageSlot) else p.part for p in pieces)


def labels_text(labels: Mapping[str, int]) -> str:
    """SteerLM labels as NeMo writes them: "quality:4,toxicity:0"."""
    return ",".join(f"{name}:{value}" for name, value in labels.items())


def _pieces(conversation: Conversation, template: Template, answer: bool) -> Iterator[Piece]:
    turns = conversation.turns
    yield from _opening(conversation, template)
    for index, turn in enumerate(turns):
        last = index == len(turns) - 1
        if turn.role == "user":
            yield Piece(template.next_user if index else template.first_user, ours=True)
            yield from _question(turn, template)
            yield Piece(template.after_user, ours=True)
            if last and answer:
                yield from _header(None, template)
        else:
            yield from _header(turn.labels, template)
            yield from _answer(turn, template, closed=not (last and answer))


def _opening(conversation: Conversation, template: Template) -> Iterator[Piece]:
    if not template.keeps_question:
        return
    if conversation.system is None:
        if template.system:
            yield Piece(template.opening[0] + template.system + template.opening[1], ours=True)
            return
    elif conversation.system:
        yield Piece(template.opening[0], ours=True)
        yield Piece(conversation.system)
        yield Piece(template.opening[1], ours=True)
        return
    yield Piece(template.bare, ours=True)


def _question(turn: Turn, template: Template) -> Iterator[Piece]:
    for part in turn.parts:
        if template.keeps_question or isinstance(part, ImageSlot):
            yield Piece(part)


def _header(labels: Mapping[str, int] | None, template: Template) -> Iterator[Piece]:
    yield Piece(template.reply, ours=True)
    shown = labels or template.default_labels
    if template.label and shown:
        yield Piece(template.label[0], ours=True)
        yield Piece(labels_text(shown))
        yield Piece(template.label[1], ours=True)


def _answer(turn: Turn, template: Template, closed: bool) -> Iterator[Piece]:
    if turn.text or closed:
        yield Piece(template.lead, ours=True, supervised=True)
    yield Piece(turn.text, supervised=True)
    if closed:
        yield Piece(template.end, ours=True, supervised=True)
        yield Piece(template.after, ours=True)


def _check_turns(turns: tuple[Turn, ...]) -> None:
    if not turns:
        raise PromptError("the conversation has no turns; it needs at least one user's turn")
    for index, turn in enumerate(turns):
        wanted = "assistant" if index % 2 else "user"
        if turn.role != wanted:
            raise PromptError(
                f"turn {index + 1} of the conversation is the {turn.role}'s, but turns must "
                "alternate and begin with the user; merge or remove turns"
            )
        if turn.role == "assistant" and any(isinstance(part, ImageSlot) for part in turn.parts):
            raise PromptError(
                f"turn {index + 1} of the conversation is the assistant's and holds an image; "
                "images belong into the user's turns"
            )
