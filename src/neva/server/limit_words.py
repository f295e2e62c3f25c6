"""Limits as an operator writes them: ``body_bytes=8MiB``, ``answer_seconds=60``."""

import math
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from neva.errors import NevaError
from neva.server.settings import Limits

MOST = {"messages": 16_384}
"""Beyond these the server does not read a request at all, whatever is allowed."""
OPTIONS = {"running": "--max-running", "waiting": "--max-waiting"}
"""Limits that have an option of their own, where they are said once."""
NAMES = tuple(one.name for one in fields(Limits) if one.name not in OPTIONS)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|[KMG]i?B)", re.ASCII)
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def limits_with(words: Sequence[str], limits: Limits) -> Limits:
    """`limits` with each ``NAME=VALUE`` of `words` in the place of its default.

    Numbers are positive; those of bytes may have a unit (KiB, MiB, GiB, or KB, MB, GB). NevaError
    names the limits that there are and what was wrong.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if name in OPTIONS:
            raise NevaError(f"--limit {word}: say {OPTIONS[name]} {text or 'NUMBER'} instead")
        if not equals or name not in NAMES:
            raise NevaError(f"--limit {word}: give NAME=VALUE, with one of {', '.join(NAMES)}")
        if name in found:
            raise NevaError(f"--limit {word}: {name} is given twice")
        found[name] = _number(word, name, text)
    return replace(limits, **found)


def _number(word: str, name: str, text: str) -> int | float:
    """The value of one limit, in the type that it has."""
    matched = _SIZE.fullmatch(text)
    sized, timed = name.endswith("_bytes"), name.endswith("_seconds")
    if matched is None or (matched[2] and not sized):
        unit = ", as 500000 or 8MiB" if sized else ""
        raise NevaError(f"--limit {word}: {text!r} is not a positive number{unit}")
    value = float(matched[1]) * _UNITS[matched[2]]
    if not math.isfinite(value) or value <= 0 or not (timed or value.is_integer()):
        kind = "positive number" if timed else "positive whole number"
        raise NevaError(f"--limit {word}: {text!r} is not a {kind}")
    if value > MOST.get(name, value):
        raise NevaError(f"--limit {word}: at most {MOST[name]:,}")
    return value if timed else int(value)
