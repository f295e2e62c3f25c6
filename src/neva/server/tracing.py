"""Where the time of each request goes, as OpenTelemetry spans.

request > queue, image decode, prefill, decode. Off unless the operator names a collector;
opentelemetry is imported then, and not before. A client's `traceparent` (W3C) is gone on from.
Spans hold ids, numbers and routes; never texts, pictures, keys.
"""

import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from neva.errors import NevaError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

QUIET = ("/v1/health/", "/health", "/ping", "/metrics", "/v1/metrics", "/web/", "/favicon.ico")
"""Paths that are asked every few seconds and tell nothing: no traces of them."""
COLLECTOR_SECONDS = 5.0
PATH = "/v1/traces"


class Trace:
    """One request under way: its id. Without a collector its spans go nowhere."""

    trace_id: str | None = None
    """32 hex digits where spans are kept, for the log line."""

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id

    def stage(self, name: str, began: float, ended: float, **about: str | int) -> None:
        """A part of the request, from `began` to `ended` on the monotonic clock (seconds)."""

    def end(self, method: str, route: str, status: int) -> None:
        """The request is over."""


UNDER_WAY: ContextVar[Trace] = ContextVar("neva-request", default=Trace())  # noqa: B039  it is empty
"""The request that this task works for; tasks inherit it."""


class Spans(Trace):
    """A request whose spans go to the collector."""

    def __init__(self, tracer: "Tracer", request_id: str, before: "Context") -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        super().__init__(request_id)
        self._tracer = tracer
        self._clock = time.time_ns() - time.monotonic_ns()
        self._whole = tracer.start_span("request", before, SpanKind.SERVER)
        self._whole.set_attribute("neva.request_id", request_id)
        self._inside = set_span_in_context(self._whole)
        context = self._whole.get_span_context()
        self.trace_id = f"{context.trace_id:032x}" if context.trace_flags.sampled else None

    def _moment(self, seconds: float) -> int:
        """Nanoseconds of the epoch at a time of the monotonic clock."""
        return int(seconds * 1e9) + self._clock

    def stage(self, name: str, began: float, ended: float, **about: str | int) -> None:
        """See `Trace`; may be called from any thread, also after the request's end (polls)."""
        span = self._tracer.start_span(name, self._inside, start_time=self._moment(began))
        span.set_attribute("neva.request_id", self.request_id)
        for key, value in about.items():
            span.set_attribute(_NAMES.get(key, f"neva.{key}"), value)
        span.end(self._moment(ended))

    def end(self, method: str, route: str, status: int) -> None:
        """See `Trace`."""
        from opentelemetry.trace import StatusCode

        self._whole.update_name(f"{method} {route}")
        self._whole.set_attribute("http.request.method", method)
        self._whole.set_attribute("http.route", route)
        self._whole.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._whole.set_status(StatusCode.ERROR)
        self._whole.end()


_NAMES: Mapping[str, str] = {
    "model": "gen_ai.response.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "finish": "gen_ai.response.finish_reason",
}
"""OpenTelemetry's own names where it has some."""


class Tracing:
    """Makes the trace of each request; `close` sends what has not been sent."""

    def __init__(self, collector: str | None = None) -> None:
        """`collector` is OTLP's base URL over HTTP, `http://127.0.0.1:4318`; None: no spans.

        NevaError for a URL that cannot be one, and where opentelemetry is not installed.
        """
        self._provider = None if collector is None else _provider(endpoint(collector))
        self._tracer = self._provider.get_tracer("neva") if self._provider else None

    def begin(self, request_id: str, path: str, headers: Mapping[str, str]) -> Trace:
        """The trace of a request that has just come."""
        if self._tracer is None or path.startswith(QUIET):
            return Trace(request_id)
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        names = ("traceparent", "tracestate")
        carrier = {name: headers[name] for name in names if name in headers}
        before = TraceContextTextMapPropagator().extract(carrier, Context())
        return Spans(self._tracer, request_id, before)

    def close(self) -> None:
        """Send what is left; waits for a collector that does not answer, but not for long."""
        if self._provider is not None:
            self._provider.shutdown()


def endpoint(collector: str) -> str:
    """Where the spans are posted to; NevaError if `collector` is not a plain http(s) URL."""
    parts = urlsplit(collector)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise NevaError(
            "--otlp must be the collector's http or https URL, as http://127.0.0.1:4318"
        )
    if parts.username or parts.password:
        raise NevaError(
            "--otlp must not hold a password: give it as OTEL_EXPORTER_OTLP_HEADERS instead"
        )
    base = collector.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def _provider(url: str) -> "TracerProvider":
    """What sends spans to `url`, in the background and in batches."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise NevaError(
            "traces need opentelemetry: pip install 'neva-vlm[trace]', or leave out --otlp"
        ) from None
    about: dict[str, Any] = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "neva")}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=url, timeout=COLLECTOR_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
