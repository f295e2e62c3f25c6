"""Requests that wait for their grammar, and whose turn it is.

genai notes the time of every compilation in a list without a lock. So either the other thread
compiles, or requests with grammars come to their first token: never both at once.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from neva.engine.messages import Add, Failed

Images = dict[str, Any]
SLOW = (
    "the JSON schema takes more than {:g} seconds to prepare: shorten it (fewer and shorter "
    "counted strings and lists)"
)
CROWD = 2
"""So many times longer may one wait for other people's schemas."""
CROWDED = "the engine is preparing other JSON schemas; try again in a moment"
UNFIT = "the JSON schema cannot be prepared by this engine ({}): simplify it"


class Compiler(Protocol):
    """See `Grammars`."""

    asked: str | None

    def knows(self, grammar: str) -> bool: ...
    def compile(self, grammar: str) -> None: ...
    def heard(self) -> Exception | None: ...


@dataclass(frozen=True)
class _Waiting:
    """One request whose images are all encoded."""

    request: Add
    images: Images = field(repr=False)
    since: float

    @property
    def grammar(self) -> str:
        return str(self.request.sampling.grammar)


class Confining:
    """For one thread. `begin` gives a request to the model; whether that worked."""

    def __init__(
        self,
        grammars: Compiler,
        begin: Callable[[Add, Images], bool],
        seconds: float,
        overtake: float = 1.0,
    ) -> None:
        """A grammar may take `seconds`. One that must be compiled is overtaken by requests whose
        grammars are known for `overtake` seconds: else a stream of them would hold it up for ever.
        """
        self._grammars, self._begin, self._seconds = grammars, begin, seconds
        self._overtake = overtake
        self._waiting: dict[int, _Waiting] = {}
        self._asked = 0.0  # when the compiler began
        self._fresh: set[int] = set()  # with a grammar, and without a token yet

    @property
    def unsettled(self) -> bool:
        """A step must come, even if all who are under way have left."""
        return bool(self._fresh)

    @property
    def patience(self) -> int | None:
        """Milliseconds until somebody has waited too long; None: nobody waits."""
        if not self._waiting:
            return None
        left = min(map(self._until, self._waiting.values())) - time.monotonic()
        return max(0, round(left * 1000) + 1)

    def add(self, request: Add, images: Images) -> None:
        """A request with a grammar."""
        self._waiting[request.key] = _Waiting(request, images, time.monotonic())
        self._turn()

    def cancel(self, key: int) -> bool:
        """Forget a request; whether it waited here."""
        return self._waiting.pop(key, None) is not None

    def heard(self) -> Iterator[Failed]:
        """There is news of the grammar under way; those whom it failed."""
        grammar = self._grammars.asked
        error = self._grammars.heard()
        if error is not None:
            yield from self._failed(
                (key for key, one in self._waiting.items() if one.grammar == grammar),
                UNFIT.format(type(error).__name__),
            )
        self._turn()

    def late(self) -> Iterator[Failed]:
        """Those who have waited too long: for their own grammar, or for others'."""
        now = time.monotonic()
        over = {key: one for key, one in self._waiting.items() if self._until(one) <= now}
        own = [key for key, one in over.items() if one.grammar == self._grammars.asked]
        yield from self._failed(own, SLOW.format(self._seconds))
        yield from self._failed([key for key in over if key not in own], CROWDED, asker=False)

    def stepped(self, spoken: Iterable[int], live: Iterable[int]) -> None:
        """A step gave tokens to `spoken`; `live` are still under way."""
        if self._fresh:
            self._fresh.difference_update(spoken)
            self._fresh.intersection_update(live)
            self._turn()

    def _until(self, one: _Waiting) -> float:
        """How long one waits: while its own grammar is compiled, that alone counts."""
        if one.grammar == self._grammars.asked:
            return self._asked + self._seconds
        return one.since + CROWD * self._seconds

    def _failed(self, keys: Iterable[int], why: str, asker: bool = True) -> Iterator[Failed]:
        for key in list(keys):
            del self._waiting[key]
            yield Failed(key, why, asker)

    def _turn(self) -> None:
        if self._grammars.asked is not None:
            return
        knows = self._grammars.knows
        new = [one for one in self._waiting.values() if not knows(one.grammar)]
        until = new[0].since + self._overtake if new else math.inf
        for key, one in list(self._waiting.items()):
            if knows(one.grammar) and one.since <= until:
                del self._waiting[key]
                if self._begin(one.request, one.images):
                    self._fresh.add(key)
        if new and not self._fresh:
            self._asked = time.monotonic()
            self._grammars.compile(new[0].grammar)
