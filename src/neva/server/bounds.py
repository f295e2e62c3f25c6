"""How many things a body may hold, counted before any of them is looked at.

Pydantic keeps a finding for each wrong element, and FastAPI writes all of them out: 1 MB of
`{"messages": [0, 0, ...]}` held the event loop for nine seconds and took 743 MiB. So every list
here ends at its first finding (`fail_fast`), and what are too many is known by their number alone.
"""

import math
from typing import Any

from pydantic import BeforeValidator

MOST_MESSAGES = 16_384
"""Most messages of a body, whatever the operator's limit is."""
MOST_PARTS = 16_384
"""Most content parts of all its messages together."""
DEEPEST = 64
"""Levels of a value that is given back: each of JSON's writers has an end of its own."""


def at_most(most: int) -> BeforeValidator:
    """A list or dict of `most` entries; pydantic itself counts a dict after reading all of it."""

    def few(value: Any) -> Any:
        if isinstance(value, (list, dict)) and len(value) > most:
            raise ValueError(f"at most {most:,} are taken")
        return value

    return BeforeValidator(few)


def _few_parts(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    said = (message.get("content") for message in value if isinstance(message, dict))
    if sum(len(content) for content in said if isinstance(content, list)) > MOST_PARTS:
        raise ValueError(f"at most {MOST_PARTS:,} content parts are taken")
    return value


few_parts = BeforeValidator(_few_parts)
"""Messages whose content has not too many parts."""


def can_be_told(value: Any, room: int = DEEPEST) -> bool:
    """Whether JSON's strict writers can write what its lax readers have read.

    Python reads NaN, 1e999 and half a surrogate pair, which are no JSON.
    """
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if not isinstance(value, (list, dict)):
        return True
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return room > 0 and all(can_be_told(one, room - 1) for one in inner)
