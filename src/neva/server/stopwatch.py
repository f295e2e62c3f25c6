"""Times one answer from its request to its end, once for the metrics, the log and the trace."""

import time
from typing import Any

from neva.engine.protocol import Chunk, Usage
from neva.server.completion import cached_dict
from neva.server.metrics import ABORT, Metrics
from neva.server.tracing import UNDER_WAY


class Stopwatch:
    """One answer's times; `told` gets what the log shall know. Belongs to the request under way."""

    def __init__(self, metrics: Metrics, told: dict[str, Any], model: str) -> None:
        self._metrics, self._told, self._model = metrics, told, model
        self._trace = UNDER_WAY.get()
        self._asked = self._begun = self._last = time.monotonic()
        self._first: float | None = None
        self._ended = False

    def begun(self) -> None:
        """The images are read; now it is the engine's."""
        self._begun = time.monotonic()

    def heard(self, chunk: Chunk) -> None:
        """Note a piece."""
        now = time.monotonic()
        if self._first is None and chunk.finish == "error":
            pass  # nothing was said: a fast failure is no fast answer
        elif self._first is None:
            self._first = now
            self._metrics.first(now - self._asked, now - self._begun)
            self._trace.stage("prefill", self._begun, now, model=self._model)
        else:
            self._metrics.gap(now - self._last)
        self._last = now
        if chunk.finish is not None:
            if chunk.busy is not None:
                self._metrics.refused()
            ours = not chunk.asker and chunk.busy is None
            self._end(chunk.finish, chunk.usage, now, ours)

    def left(self, last: Chunk | None) -> None:
        """Nobody listens any more; `last` is the engine's last word if that is known already."""
        if not self._ended:
            self._end(ABORT, last.usage if last else None, time.monotonic())

    def _end(self, reason: str, usage: Usage | None, now: float, ours: bool = True) -> None:
        self._ended = True
        first = now if self._first is None else self._first
        self._metrics.ended(reason, usage, now - self._asked, now - first, ours)
        if self._first is not None:
            self._told["first_token_seconds"] = round(first - self._asked, 4)
        self._told["finish"] = reason
        tokens: dict[str, int] = {}
        if usage is not None:
            tokens = {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                **cached_dict(usage),
            }
            before = self._told.get("completion_tokens", 0)
            self._told.update(tokens, completion_tokens=before + usage.completion_tokens)
        self._trace.stage("decode", first, now, model=self._model, finish=reason, **tokens)
