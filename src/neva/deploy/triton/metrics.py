"""What Triton's own metrics lack: tokens, and figures of the engine's caches.

Imported by Triton only.
"""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import triton_python_backend_utils as pb

from neva.engine.protocol import Usage
from neva.server.metrics import FIGURES, OWN_FIGURES


class TritonMetrics:
    """`neva_engine_*` at Triton's metrics port; `tell` after each answer, from any thread."""

    def __init__(self, model: str) -> None:
        self._labels = {"model": model}
        self._kept: dict[str, tuple[Any, Any]] = {}  # a family must outlive its metric
        self._last: dict[str, float] = {}
        self._lock = Lock()

    def tell(self, usage: Usage, figures: Mapping[str, float]) -> None:
        """Count an answer's tokens, and show the engine's figures as they are now.

        Of a counter what has come since the last time is added: Triton keeps its value when the
        model is loaded anew, and the new engine begins at 0.
        """
        with self._lock:
            self._counter("prompt_tokens", "Prompt tokens, images included", usage.prompt_tokens)
            self._counter("generation_tokens", "Tokens generated", usage.completion_tokens)
            for name, value in figures.items():
                kind, text, _ = FIGURES.get(name, ("gauge", name.replace("_", " "), ()))
                if kind == "counter":
                    last = self._last.get(name, 0.0)
                    self._counter(name, text, value - last)
                    self._last[name] = max(value, last)  # other threads may have newer figures
                else:
                    self._metric(name, text, kind).set(value)

    def _counter(self, name: str, text: str, more: float) -> None:
        if more > 0:
            self._metric(name, text, "counter").increment(more)

    def _metric(self, name: str, text: str, kind: str) -> Any:
        """The metric of a name, made where it is not there yet."""
        if name not in self._kept:
            family = pb.MetricFamily(
                name=OWN_FIGURES + name,
                description=text,
                kind=pb.MetricFamily.COUNTER if kind == "counter" else pb.MetricFamily.GAUGE,
            )
            self._kept[name] = family, family.Metric(labels=self._labels)
        return self._kept[name][1]
