"""Prometheus metrics under the names that NIM's and vLLM's dashboards scrape.

NIM's names have no prefix, vLLM's have `vllm:`; the figures are the same.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from neva.engine.protocol import Chunk

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """What the server tells Prometheus."""

    def __init__(self, model: str, capacity: int) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._running = self._gauges("num_requests_running", "Answers in the engine")
        self._waiting = self._gauges("num_requests_waiting", "Answers waiting for a place")
        (most, *_) = self._gauges("num_request_max", "Most answers in the engine at once")
        most.set(capacity)
        self._prompt = self._counters("prompt_tokens", "Prompt tokens, images included")
        self._generated = self._counters("generation_tokens", "Tokens generated")
        self._success = self._counters("request_success", "Answers finished", "finished_reason")
        self._failure = self._counters("request_failure", "Answers failed", "finished_reason")
        self._finish = self._counters("request_finish", "Answers ended", "finished_reason")
        self._first = self._histograms("time_to_first_token_seconds", SECONDS)
        self._token = self._histograms("time_per_output_token_seconds", TOKEN_SECONDS)
        self._token += [self._histogram("vllm:inter_token_latency_seconds", TOKEN_SECONDS)]
        self._whole = self._histograms("e2e_request_latency_seconds", SECONDS)
        self._queue = self._histograms("request_queue_time_seconds", SECONDS)
        self._prompts = self._histograms("request_prompt_tokens", TOKENS)
        self._lengths = self._histograms("request_generation_tokens", TOKENS)
        self._decode = [self._histogram("neva_image_decode_seconds", SECONDS)]
        self._images = [Counter("neva_images", "Images read", registry=self.registry)]
        self._refused = Counter(
            "neva_requests_refused", "Requests answered with 429", registry=self.registry
        )

    def _gauges(self, name: str, text: str) -> list[Gauge]:
        return [
            Gauge(prefix + name, text, ["model_name"], registry=self.registry).labels(self._model)
            for prefix in ("", "vllm:")
        ]

    def _counters(self, name: str, text: str, *labels: str) -> list[Counter]:
        made = [
            Counter(prefix + name, text, ["model_name", *labels], registry=self.registry)
            for prefix in ("", "vllm:")
        ]
        return made if labels else [counter.labels(self._model) for counter in made]

    def _histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        text = name.removeprefix("vllm:").removeprefix("neva_").replace("_", " ")
        histogram = Histogram(
            name, text, ["model_name"], registry=self.registry, buckets=tuple(buckets)
        )
        return histogram.labels(self._model)

    def _histograms(self, name: str, buckets: Sequence[float]) -> list[Histogram]:
        return [self._histogram(prefix + name, buckets) for prefix in ("", "vllm:")]

    def watch(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Read the two gauges when they are scraped."""
        for gauge in self._running:
            gauge.set_function(running)
        for gauge in self._waiting:
            gauge.set_function(waiting)

    def refused(self) -> None:
        """A request was answered with 429."""
        self._refused.inc()

    def queued(self, seconds: float) -> None:
        """A request got its place after `seconds`."""
        for histogram in self._queue:
            histogram.observe(seconds)

    def read(self, images: int, seconds: float) -> None:
        """`images` were decoded in `seconds`."""
        if images:
            self._images[0].inc(images)
            self._decode[0].observe(seconds)

    def first(self, seconds: float) -> None:
        """The first piece of an answer came `seconds` after its request."""
        for histogram in self._first:
            histogram.observe(seconds)

    def ended(self, last: Chunk, seconds: float, decoding: float) -> None:
        """An answer ended after `seconds`, of which `decoding` after its first piece."""
        finish = last.finish or "error"
        kinds = self._failure if finish == "error" else self._success
        for counter in [*kinds, *self._finish]:
            counter.labels(self._model, finish).inc()
        for histogram in self._whole:
            histogram.observe(seconds)
        if last.usage is None:
            return
        prompt, generated = last.usage.prompt_tokens, last.usage.completion_tokens
        for counters, histograms, tokens in (
            (self._prompt, self._prompts, prompt),
            (self._generated, self._lengths, generated),
        ):
            for counter in counters:
                counter.inc(tokens)
            for histogram in histograms:
                histogram.observe(tokens)
        if generated > 1:
            for histogram in self._token:
                histogram.observe(decoding / (generated - 1))

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return bytes(generate_latest(self.registry))


class Stopwatch:
    """Times one answer from its request to its end; tells `metrics`, and `told` for the log."""

    def __init__(self, metrics: Metrics, told: dict[str, Any]) -> None:
        self._metrics = metrics
        self._told = told
        self._started = time.monotonic()
        self._first: float | None = None

    def heard(self, chunk: Chunk) -> None:
        """Note a chunk."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._metrics.first(now - self._started)
        if chunk.finish is not None:
            self._metrics.ended(chunk, now - self._started, now - self._first)
            self._told["first_token_seconds"] = round(self._first - self._started, 4)
            self._told["finish"] = chunk.finish
            if chunk.usage is not None:
                self._told["prompt_tokens"] = chunk.usage.prompt_tokens
                generated = self._told.get("completion_tokens", 0) + chunk.usage.completion_tokens
                self._told["completion_tokens"] = generated
