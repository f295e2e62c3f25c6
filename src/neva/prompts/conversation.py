"""What is said: a conversation of turns whose parts are text and images. No template, no tokens.

An image is a part of its own, so text that merely contains "<image>" stays text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class ImageSlot:
    """The place of one image; `index` counts into the request's or record's list of images."""

    index: int


Part = str | ImageSlot


@dataclass(frozen=True)
class Turn:
    """One turn. `labels` are SteerLM attributes (nvgpt template), e.g. {"quality": 4}."""

    role: Role
    parts: tuple[Part, ...]
    labels: Mapping[str, int] | None = None

    @property
    def text(self) -> str:
        """The turn's text without its images."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class Conversation:
    """Alternating turns, user first. `system` None means the template's own system text."""

    turns: tuple[Turn, ...]
    system: str | None = None
    slots: tuple[ImageSlot, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = (part for turn in self.turns for part in turn.parts if isinstance(part, ImageSlot))
        object.__setattr__(self, "slots", tuple(found))


def user(*parts: Part) -> Turn:
    """A user's turn."""
    return Turn("user", tuple(parts))


def assistant(*parts: Part) -> Turn:
    """An assistant's turn."""
    return Turn("assistant", tuple(parts))


def ask(question: str, images: int = 1, system: str | None = None) -> Conversation:
    """One question about `images` images, which come first, as LLaVA's data has it."""
    slots: Sequence[Part] = [ImageSlot(i) for i in range(images)]
    text = f"\n{question}" if images else question
    return Conversation((user(*slots, text),), system)
