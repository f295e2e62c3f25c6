"""The turns of one raw record: roles, images in their places, system text, labels.

LLaVA's rule is kept: where a user's turn has its images at the start or at the end, they come first
and a line break follows, whatever white space the file has. Images elsewhere stay where they are.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from neva.images import ImageSource, split_tags
from neva.prompts import Conversation, ImageSlot, Part, Role, Turn

PLACE = "<image>"
ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
LABEL = re.compile(r"\s*([A-Za-z_]\w*)\s*:\s*(\d+)\s*")


class Unusable(Exception):
    """Why a raw record cannot be used, and the remedy; becomes a `Flaw`."""


def conversation_of(raw: Any, tags: bool) -> tuple[list[str], Conversation]:
    """(image names in order of their slots, conversation) of a raw record.

    `tags`: `<img src="...">` in a user's text is an image (NeVA's JSON lines); else it is text.
    Raises Unusable.
    """
    if not isinstance(raw, Mapping):
        raise Unusable("it is not a JSON object; a record is {id, image, conversations}")
    system, spoken = _spoken(raw)
    images = _Images(_listed(raw.get("image")), "image" in raw, tags)
    turns = [
        Turn(role, tuple(_user_parts(text, images)) if role == "user" else (text.strip(),), labels)
        for role, text, labels in spoken
    ]
    images.check()
    return images.used, Conversation(tuple(turns), system)


class _Images:
    """The images of a record, handed out to places in the order in which they come."""

    def __init__(self, listed: list[str], expected: bool, tags: bool) -> None:
        self.listed, self.tags = listed, tags
        self.marks = bool(listed) or expected  # without an image, "<image>" is text
        self.places = 0
        self.used: list[str] = []

    def place(self) -> ImageSlot:
        """The next listed image."""
        self.places += 1
        return self.take(self.listed[self.places - 1] if self.places <= len(self.listed) else "")

    def take(self, name: str) -> ImageSlot:
        self.used.append(name)
        return ImageSlot(len(self.used) - 1)

    def check(self) -> None:
        if self.places != len(self.listed):
            raise Unusable(
                f"it has {len(self.listed)} image(s) but {self.places} {PLACE} in its user turns; "
                "make them as many"
            )


def _listed(value: Any) -> list[str]:
    names = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(name, str) and name for name in names):
        raise Unusable(f"its image is {value!r}; it must be a file name or a list of them")
    return list(names)


def _spoken(raw: Mapping[str, Any]) -> tuple[str | None, list[tuple[Role, str, Any]]]:
    """System text and (role, text, labels) of every usable turn."""
    told = raw.get("conversations")
    if not isinstance(told, list):
        raise Unusable("it has no list of conversations; add the turns")
    system = raw.get("system")
    turns: list[tuple[Role, str, Any]] = []
    for number, turn in enumerate(told, start=1):
        who, text = (turn.get("from"), turn.get("value")) if isinstance(turn, Mapping) else (0, 0)
        if not isinstance(who, str) or not isinstance(text, str):
            raise Unusable(f"its turn {number} is not {{from, value}} with texts; mend it")
        role = ROLES.get(who.lower())
        if role is None and who.lower() == "system" and number == 1:
            system = system or text
        elif role is None:
            raise Unusable(f"its turn {number} is from {who!r}; use human and gpt")
        elif role == "assistant" and not text.strip():
            raise Unusable(f"its turn {number} is an empty answer; fill it or leave it out")
        elif turns or role == "user":  # an answer to nothing at the start is left out
            turns.append((role, text, _labels(turn.get("label"), number)))
    while turns and turns[-1][0] == "user":  # and so is a question without an answer at the end
        turns.pop()
    if not turns:
        raise Unusable("it has no question with an answer; there is nothing to learn from it")
    for number, (turn, wanted) in enumerate(zip(turns, _alternating(), strict=False), start=1):
        if turn[0] != wanted:
            raise Unusable(f"its turn {number} should be the {wanted}'s; turns must alternate")
    if system is not None and not isinstance(system, str):
        raise Unusable("its system is not a text; make it one or leave it out")
    return system, turns


def _alternating() -> Iterator[Role]:
    while True:
        yield "user"
        yield "assistant"


def _labels(value: Any, number: int) -> Mapping[str, int] | None:
    """SteerLM labels, from "quality:4,toxicity:0" or a mapping."""
    if value is None or value == "":
        return None
    if isinstance(value, Mapping) and all(type(score) is int for score in value.values()):
        return dict(value)
    if isinstance(value, str):
        found = [LABEL.fullmatch(item) for item in value.split(",")]
        if all(found):
            return {match[1]: int(match[2]) for match in found if match}
    raise Unusable(f"the label of its turn {number} is not like quality:4,toxicity:0; mend it")


def _user_parts(text: str, images: _Images) -> list[Part]:
    """A user's text cut at its images, these moved to the front where LLaVA moves them."""
    parts: list[Part] = []
    for piece in split_tags(text) if images.tags else [text]:
        if isinstance(piece, ImageSource):
            if ":" in piece.url.split("/")[0]:
                raise Unusable("an <img> tag holds an address or data; save the image as a file")
            parts.append(images.take(piece.url))
            continue
        for index, words in enumerate(piece.split(PLACE) if images.marks else [piece]):
            if index:
                parts.append(images.place())
            parts.append(words)
    return _images_first(parts)


def _images_first(parts: list[Part]) -> list[Part]:
    slots: list[Part] = [part for part in parts if isinstance(part, ImageSlot)]
    if not slots:
        return parts
    solid = [part for part in parts if not isinstance(part, str) or part.strip()]
    texts = [part for part in solid if isinstance(part, str)]
    if len(texts) > 1 or (texts and solid.index(texts[0]) not in (0, len(solid) - 1)):
        return [part for part in parts if part != ""]  # images between words
    return [*slots, f"\n{texts[0].strip()}"] if texts else slots
