"""openvino-genai's continuous batching, fed with embeddings. For one thread, in its own process.

Never give it integer ids, and treat an exception in `step` as fatal: the pipeline cannot be used
after one and may crash the process (docs/engines.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai as genai
from numpy.typing import NDArray
from openvino import Tensor

from neva.engine.graphs import Export
from neva.engine.mapped import let_go
from neva.engine.messages import Add, Failed, Setup, Tokens
from neva.engine.protocol import Sampling
from neva.engine.spelling import spelling_tokenizer

_FINISH = {
    genai.GenerationFinishReason.STOP: "stop",
    genai.GenerationFinishReason.LENGTH: "length",
}


TOO_SMALL = "the engine's memory (KV cache) is too small for this request: shorten it"


@dataclass
class _Live:
    """A request under way; `embeds` must outlive it, since genai may share the memory."""

    handle: Any
    logprobs: bool
    embeds: NDArray[np.float32] = field(repr=False)
    stepped: bool = False
    """A step has come since it was added."""
    spoken: bool = False
    """It has had a token."""
    whole: bool = False
    """It had one in the last step, so all that it has asked for is computed."""
    leaving: bool = False
    """Nobody listens any more."""


class PagedModel:
    """The language model with its paged KV cache."""

    def __init__(self, made: Export, setup: Setup) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = setup.cache_blocks
        scheduler.enable_prefix_caching = True
        properties: dict[str, Any] = dict(setup.language)
        if setup.threads:
            properties["INFERENCE_NUM_THREADS"] = setup.threads
        self.tokenizer = spelling_tokenizer(setup.spelled or (b"?",), setup.end)
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(made.folder), self.tokenizer, scheduler, "CPU", **properties
        )
        self._live: dict[int, _Live] = {}
        self._unread: Path | None = made.language.with_suffix(".bin")  # until an answer was given

    @property
    def cache_share(self) -> float:
        """Share of the KV cache, 0 to 1, that requests held in the last step."""
        return float(self._pipeline.get_metrics().cache_usage) / 100 if self._live else 0.0

    @property
    def busy(self) -> bool:
        """There are requests under way."""
        return bool(self._live)

    @property
    def live(self) -> Iterable[int]:
        """The keys of the requests under way."""
        return self._live.keys()

    def add(self, request: Add, embeds: NDArray[np.float32]) -> None:
        """Begin answering a prompt of embeddings (1, L, D)."""
        embeds = np.ascontiguousarray(embeds, dtype=np.float32)
        config = _config(request.sampling, request.stop_ids)
        handle = self._pipeline.add_request(request.key, Tensor(embeds), config)
        self._live[request.key] = _Live(handle, request.sampling.logprobs, embeds)

    def cancel(self, key: int) -> None:
        """Stop a request: at once, or with its next token where its prompt is half computed.

        genai names a block of the KV cache by all that is to stand in it when the first of it is
        computed, and keeps the block when the request ends. Cancelled in between, it would hand
        what was never computed to all who send the same beginning later.
        """
        live = self._live.get(key)
        if live is None:
            return
        if live.whole or self._untouched(key, live):
            self._leave(key)
        else:
            live.leaving = True

    def _untouched(self, key: int, live: _Live) -> bool:
        """Nothing of it was computed: prompts are, in the order in which they came."""
        first = next((k for k, one in self._live.items() if not one.spoken), None)
        return not live.spoken and (key != first or not live.stepped)

    def _leave(self, key: int) -> None:
        """Its memory is free after the next step."""
        self._live.pop(key).handle.cancel()

    def step(self) -> Iterator[Tokens | Failed]:
        """One token for every request under way (or a piece of a long prompt)."""
        self._pipeline.step()
        for key, live in list(self._live.items()):
            tokens, scores, finish = _read(live.handle)
            live.stepped, live.whole = True, bool(tokens)
            live.spoken |= live.whole
            news: Tokens | Failed | None = None
            if finish is not None:
                self._finished(key)
            elif live.leaving and live.whole:
                self._leave(key)
            if tokens or finish is not None:
                news = Tokens(key, tuple(tokens), finish, tuple(scores) if live.logprobs else ())
            elif live.handle.get_status() == genai.GenerationStatus.IGNORED:
                del self._live[key]
                news = Failed(key, TOO_SMALL)
            if news is not None and not live.leaving:
                yield news

    def _finished(self, key: int) -> None:
        """After the first answer every kernel has its own copy of its weights."""
        del self._live[key]
        if self._unread is not None:
            let_go(self._unread)
            self._unread = None


def _read(handle: Any) -> tuple[list[int], list[float], Any]:
    """What is new: tokens, their log probabilities (0 unless asked for), and the finish."""
    tokens: list[int] = []
    scores: list[float] = []
    finish = None
    while handle.can_read():
        for output in handle.read().values():
            tokens.extend(output.generated_ids)
            scores.extend(output.generated_log_probs)
            finish = _FINISH.get(output.finish_reason)
    return tokens, scores, finish


def _config(sampling: Sampling, stop_ids: frozenset[int]) -> Any:
    config = genai.GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    config.stop_token_ids = set(stop_ids)
    config.logprobs = int(sampling.logprobs)
    if sampling.grammar is not None:
        config.structured_output_config = genai.StructuredOutputConfig(grammar=sampling.grammar)
    config.do_sample = not sampling.greedy
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        if sampling.top_k:
            config.top_k = sampling.top_k
        config.rng_seed = sampling.seed
    return config
