"""Prometheus metrics under the names that NIM's and vLLM's dashboards scrape.

NIM's names have no prefix, vLLM's have `vllm:`. Each figure is kept once and told under each of its
names when it is scraped, so that a second name costs nothing while answers are made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from neva.engine.protocol import EngineInfo, Usage

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

ABORT = "abort"
"""vLLM's reason for an answer whose client left."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "inter_token_latency_seconds": (
        "inter_token_latency_seconds",
        "time_per_output_token_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds",
    ),
}
"""Figures with other names than their own and `vllm:` before it."""


def names_of(family: str) -> tuple[str, ...]:
    """All names of a figure."""
    own = (family,) if family.startswith("neva_") else (family, f"vllm:{family}")
    return NAMES.get(family, own)


FIGURES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "image_cache_queries": (
        "counter",
        "Images asked of the cache of encoded ones",
        ("mm_cache_queries",),
    ),
    "image_cache_hits": ("counter", "Images that were encoded already", ("mm_cache_hits",)),
    "prefix_cache_queries": (
        "counter",
        "Prompt tokens looked for in the KV cache",
        ("prefix_cache_queries",),
    ),
    "prefix_cache_hits": ("counter", "Prompt tokens found in the KV cache", ("prefix_cache_hits",)),
    "kv_cache_usage": (
        "gauge",
        "KV cache in use, 0 to 1",
        ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    ),
}
"""An engine's own figure -> kind, meaning, and NIM's or vLLM's names."""
OWN_FIGURES = "neva_engine_"
"""Before the name of an engine's figure that has no name elsewhere: a gauge."""


class Names(Collector):  # type: ignore[misc]  # prometheus_client is not followed
    """Collects what `inner` collects, each under all of its names."""

    def __init__(self, inner: CollectorRegistry) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        """The families, without the moments at which they were made (`_created`)."""
        for family in self._inner.collect():
            for name in names_of(family.name):
                renamed = Metric(name, family.documentation, family.type, family.unit)
                for sample in family.samples:
                    ending = sample.name.removeprefix(family.name)
                    if ending != "_created":
                        renamed.samples.append(sample._replace(name=name + ending))
                yield renamed


class Figures(Collector):  # type: ignore[misc]  # as above
    """An engine's own figures."""

    def __init__(self, read: Callable[[], Mapping[str, float]], model: str) -> None:
        self._read, self._model = read, model

    def collect(self) -> Iterator[Metric]:
        """One family for each name of each figure that the engine has."""
        for name, value in self._read().items():
            plain = ("gauge", name.replace("_", " "), (OWN_FIGURES + name,))
            kind, text, names = FIGURES.get(name, plain)
            for each in names:
                family = Metric(each, text, kind)
                ending = "_total" if kind == "counter" else ""
                family.add_sample(each + ending, {"model_name": self._model}, value)
                yield family


class Metrics:
    """What the server tells Prometheus."""

    def __init__(self, info: EngineInfo, capacity: int, version: str) -> None:
        self._twice, self.registry = CollectorRegistry(), CollectorRegistry()
        self._model = info.name
        self.registry.register(Names(self._twice))
        ProcessCollector(registry=self.registry)
        self._about(info, version)
        self._running = self._gauge("num_requests_running", "Answers in the engine")
        self._waiting = self._gauge("num_requests_waiting", "Answers waiting for a place")
        self._gauge("num_request_max", "Most answers in the engine at once").set(capacity)
        self._prompt = self._counter("prompt_tokens", "Prompt tokens, images included")
        self._generated = self._counter("generation_tokens", "Tokens generated")
        finish = "finished_reason"
        self._success = self._counter("request_success", "Answers finished", finish)
        self._failure = self._counter("request_failure", "Answers that the engine failed", finish)
        self._finish = self._counter("request_finish", "Answers ended, however", finish)
        self._first = self._seconds("time_to_first_token_seconds", "Request to first text")
        self._gap = self._histogram(
            "inter_token_latency_seconds", "Between two pieces of an answer", TOKEN_SECONDS
        )
        self._whole = self._seconds("e2e_request_latency_seconds", "Request to end of answer")
        self._queue = self._seconds("request_queue_time_seconds", "Waiting for a place")
        self._prefill = self._seconds("request_prefill_time_seconds", "Engine to first text")
        self._decode = self._seconds("request_decode_time_seconds", "First text to end of answer")
        self._prompts = self._histogram("request_prompt_tokens", "Prompt tokens", TOKENS)
        self._lengths = self._histogram("request_generation_tokens", "Tokens generated", TOKENS)
        for reason in ("stop", "length", "error", ABORT):  # from 0 on, or a rate misses the first
            for counter in self._counters_of(reason):
                counter.labels(self._model, reason)
        self._ours()

    def _about(self, info: EngineInfo, version: str) -> None:
        about = Info("neva", "What is served, and how", registry=self.registry)
        how = {"engine": info.engine, "precision": info.precision, "device": info.device}
        about.info({"version": version, "model_name": info.name, **how})

    def _ours(self) -> None:
        """What only this server tells."""
        self._reading = Histogram(
            "neva_image_decode_seconds",
            "Fetching, decoding and checking the images of a request",
            registry=self.registry,
            buckets=SECONDS,
        )
        self._images = Counter("neva_images", "Images read", registry=self.registry)
        self._refused = Counter(
            "neva_requests_refused", "Requests refused for want of a place", registry=self.registry
        )
        self._responses = Counter(
            "neva_http_responses",
            "HTTP responses; status 499: the client left",
            ["route", "status"],
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["model_name"], registry=self._twice).labels(self._model)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        made = Counter(name, text, ["model_name", *labels], registry=self._twice)
        return made if labels else made.labels(self._model)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        made = Histogram(name, text, ["model_name"], registry=self._twice, buckets=buckets)
        return made.labels(self._model)

    def _seconds(self, name: str, text: str) -> Histogram:
        return self._histogram(name, f"{text}, seconds", SECONDS)

    def watch(
        self,
        running: Callable[[], int],
        waiting: Callable[[], int],
        figures: Callable[[], Mapping[str, float]],
    ) -> None:
        """Read the two gauges, and the engine's own figures, when they are scraped."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)
        self._twice.register(Figures(figures, self._model))

    def answered(self, route: str, status: int) -> None:
        """An HTTP response was given, for whatever kind of request."""
        self._responses.labels(route, status).inc()

    def refused(self) -> None:
        """A request was answered with 429: there was no place."""
        self._refused.inc()

    def queued(self, seconds: float) -> None:
        """A request got its place after `seconds`."""
        self._queue.observe(seconds)

    def read(self, images: int, seconds: float) -> None:
        """`images` were decoded in `seconds`."""
        self._images.inc(images)
        self._reading.observe(seconds)

    def _counters_of(self, reason: str, ours: bool = True) -> list[Counter]:
        """Those that count an answer which ended so; `ours`: a failure is no fault of the asker."""
        if reason == ABORT or not ours:
            return [self._finish]
        return [self._finish, self._failure if reason == "error" else self._success]

    def first(self, seconds: float, in_engine: float) -> None:
        """The first piece of an answer came `seconds` after its request."""
        self._first.observe(seconds)
        self._prefill.observe(in_engine)

    def gap(self, seconds: float) -> None:
        """The next piece came `seconds` after the one before it."""
        self._gap.observe(seconds)

    def ended(
        self, reason: str, usage: Usage | None, seconds: float, decoding: float, ours: bool = True
    ) -> None:
        """An answer ended after `seconds`, of which `decoding` after its first piece.

        `reason` is a finish of the engine, or "abort" when the client left. Only whole answers
        have times: failures, which are fast, would make a sick server look quick.
        """
        for counter in self._counters_of(reason, ours):
            counter.labels(self._model, reason).inc()
        if reason not in (ABORT, "error"):
            self._whole.observe(seconds)
            self._decode.observe(decoding)
        if usage is not None and usage.prompt_tokens:  # none: an engine that does not know
            self._prompt.inc(usage.prompt_tokens)
            self._generated.inc(usage.completion_tokens)
            self._prompts.observe(usage.prompt_tokens)
            self._lengths.observe(usage.completion_tokens)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return bytes(generate_latest(self.registry))
