"""What is said, how templates write it, and the token ids that come of it."""

from neva.prompts.chat_template import jinja_template
from neva.prompts.conversation import (
    Conversation,
    ImageSlot,
    Part,
    Role,
    Turn,
    ask,
    assistant,
    user,
)
from neva.prompts.encode import Encoded, begin_text, encode, fits, stop_ids, truncate
from neva.prompts.render import Piece, labels_text, render, text_of
from neva.prompts.templates import STEER_LABELS, TEMPLATES, Template

__all__ = [
    "STEER_LABELS",
    "TEMPLATES",
    "Conversation",
    "Encoded",
    "ImageSlot",
    "Part",
    "Piece",
    "Role",
    "Template",
    "Turn",
    "ask",
    "assistant",
    "begin_text",
    "encode",
    "fits",
    "jinja_template",
    "labels_text",
    "render",
    "stop_ids",
    "text_of",
    "truncate",
    "user",
]
