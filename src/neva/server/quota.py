"""What one key may ask: so many requests at once, so many a minute, and only certain things.

Used from the event loop only.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neva.server.auth import Key
from neva.server.errors import ApiError

MINUTE = 60.0
METRICS = ("/metrics", "/v1/metrics")
AGAIN = "/v2/nvcf/pexec/status/"
"""Below it is asked for answers whose making holds a place already."""


class Place:
    """What a request has of its key's places; free again when all who hold it have left.

    `running` counts the places in use by `who`, of which there are `most` (None: no limit).
    """

    def __init__(
        self,
        running: dict[tuple[str, bool], int] | None = None,
        who: tuple[str, bool] = ("", False),
        most: int | None = None,
    ) -> None:
        self._running = defaultdict(int) if running is None else running
        self._who, self._most = who, most
        self._taken = self._holders = 0

    def take(self, answers: int) -> None:
        """Places for `answers` in all; ApiError 429 when there are none, 422 if there never are."""
        most, more = self._most, answers - self._taken
        if most is not None and answers > most:
            raise ApiError(422, f"n must be at most {most} for this key", "n")
        if most is not None and self._running[self._who] + more > most:
            raise ApiError(
                429,
                f"this key has {self._running[self._who] - self._taken} answers under way, and may "
                f"have no more than {most}",
                headers={"Retry-After": "1"},
            )
        self._running[self._who] += more
        self._taken = answers

    def hold(self) -> None:
        """Keep it until `leave`, which must follow."""
        self._holders += 1

    def leave(self) -> None:
        """Let go of it."""
        self._holders -= 1
        if self._holders == 0:
            self._running[self._who] -= self._taken
            self._taken = 0


class Quota:
    """Counts requests by key. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[tuple[str, bool], int] = defaultdict(int)
        self._left: dict[str, tuple[float, float]] = {}

    @contextmanager
    def request(self, key: Key | None, path: str) -> Iterator[Place]:
        """Hold one of the key's places; ApiError 403 or 429 if it may not ask, or not now.

        Asking again is counted apart: it must be possible while its answer holds the only place.
        """
        if key is None:
            yield Place()
            return
        scope = "metrics" if path in METRICS else "ask"
        if key.only not in (None, scope):
            raise ApiError(403, f"this key is for {key.only!r} only")
        self._spend(key)
        place = Place(self._running, (key.name, path.startswith(AGAIN)), key.running)
        place.take(1)
        place.hold()
        try:
            yield place
        finally:
            place.leave()

    def _spend(self, key: Key) -> None:
        """Take one from a bucket that fills at the key's rate."""
        if key.per_minute is None:
            return
        now, most = self._clock(), float(key.per_minute)
        left, then = self._left.get(key.name, (most, now))
        left = min(most, left + (now - then) * most / MINUTE)
        if left < 1:
            wait = math.ceil((1 - left) * MINUTE / most)
            raise ApiError(
                429,
                f"this key may ask {key.per_minute} times a minute; come back in {wait} s",
                headers={"Retry-After": str(wait)},
            )
        self._left[key.name] = (left - 1, now)
