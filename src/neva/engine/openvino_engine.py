"""The embedded default engine on CPU: openvino-genai in a process of its own.

Here, in the caller's process: checks, tokens, pixels, text. There (worker.py): the model. Whole
conversations are sent each turn; the KV cache over there recognises what it has seen.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neva.engine import IMAGE_CACHE_MIB
from neva.engine.admission import Admission, Limits, check_able
from neva.engine.decode import AnswerText
from neva.engine.graphs import find_export
from neva.engine.logprobs import LogprobTape, Scored
from neva.engine.lru import ArrayCache
from neva.engine.messages import (
    Add,
    Cancel,
    Counts,
    Failed,
    Picture,
    Pixels,
    Setup,
    Spoken,
    Tokens,
    Want,
)
from neva.engine.precision import Precision, precision_named
from neva.engine.prefixes import BLOCK, PrefixTally
from neva.engine.protocol import Chunk, EngineInfo, Request, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.engine.worker_process import WorkerProcess
from neva.errors import EngineError
from neva.images.image import RGBImage
from neva.model.checkpoint import Checkpoint
from neva.model.shapes import text_config
from neva.prompts import Encoded

_log = logging.getLogger("neva.engine")
MEBIBYTE = 2**20
DIED = "the engine's process ended while answering; it is being started again, ask once more"


@dataclass(frozen=True)
class OpenVinoOptions:
    """Sizes: KV cache (its memory is used as it fills), images kept encoded, CPU threads.

    `cache_mib` None: 2 GiB, or more where that would not hold one conversation of 8192 tokens.
    `grammar_seconds`: the longest that the compiling of a JSON schema may take.
    """

    cache_mib: int | None = None
    image_cache_mib: int = IMAGE_CACHE_MIB
    threads: int | None = None
    grammar_seconds: float = 60.0


@dataclass
class _Answer:
    """One answer under way."""

    stream: ChunkStream
    text: AnswerText
    tape: LogprobTape | None
    worker: WorkerProcess
    add: Add
    squares: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    known: int  # prompt tokens in the KV cache
    unseen: int = 0  # pictures that had to be encoded
    tokens: list[int] = field(default_factory=list)

    @property
    def usage(self) -> Usage:
        images = len(self.squares) - self.unseen
        return Usage(len(self.add.ids), len(self.tokens), self.known, images)


class OpenVinoEngine:
    """See `Engine` in protocol.py."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: str | None = None,
        options: OpenVinoOptions | None = None,
        name: str | None = None,
        wait: bool = True,
    ) -> None:
        """Start the process; with `wait`, until it can answer. Else the first request waits.

        NevaError for an unknown precision or a model that has no graphs.
        """
        options = options or OpenVinoOptions()
        row = precision_named(precision)
        self._checkpoint = checkpoint
        self._admission = admission = Admission(checkpoint, _limits(checkpoint, options))
        self._setup = lambda: _setup(checkpoint, row, options, admission.spelled)
        self._lock = Lock()
        self._keys = count()
        self._answers: dict[int, _Answer] = {}
        self._squares = ArrayCache(options.image_cache_mib * MEBIBYTE // 5)
        self._prefixes = PrefixTally(_blocks(checkpoint, options), checkpoint.image_tokens)
        self._counts, self._past_counts, self._restarts = Counts(), Counts(), 0
        self._closed = False
        self._worker = self._start()  # first of all: it takes longest
        self._info = EngineInfo(
            name=name or checkpoint.path.name,
            engine="openvino",
            precision=row.name,
            context=checkpoint.context,
            image_tokens=checkpoint.image_tokens,
            weights=checkpoint.fingerprint,
            penalties=False,  # genai adds one where it should take it away: docs/engines.md, traps
            reproducible=row.reproducible,
            top_logprobs=None if admission.spelled is None else 0,
            grammar=admission.spelled is not None,
        )
        self._admission.warm()  # while the process loads
        self._stop_ids = self._admission.stop_ids
        if wait:
            self._worker.wait_ready()

    @property
    def info(self) -> EngineInfo:
        """What is being served."""
        return self._info

    @property
    def pid(self) -> int:
        """The engine process's id, for monitoring."""
        return self._worker.pid

    def figures(self) -> Mapping[str, float]:
        """What the caches did since the engine was opened, for metrics."""
        with self._lock:
            now, past = self._counts, self._past_counts
        return {
            "image_cache_queries": past.images + now.images,
            "image_cache_hits": past.known_images + now.known_images,
            "image_cache_bytes": now.image_bytes,
            "prefix_cache_queries": self._prefixes.asked,
            "prefix_cache_hits": self._prefixes.known,
            "kv_cache_usage": now.cache_share if self._answers else 0.0,
            "restarts": self._restarts,
        }

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        """Start answering; NevaError, and nothing started, if one of them never can be."""
        for request in requests:
            check_able(request.sampling, self._info)
        encoded = [self._admission.admit(request) for request in requests]
        adds = [self._add(request, ids) for request, ids in zip(requests, encoded, strict=True)]
        squares = [self._squares_of(request) for request in requests]
        worker = self._ready_worker()
        return [
            self._begin(worker, request, add, shown)
            for request, add, shown in zip(requests, adds, squares, strict=True)
        ]

    def close(self) -> None:
        """End the process; answers under way end with finish "error"."""
        with self._lock:
            self._closed = True
            worker = self._worker
        worker.close()
        self._fail_all(worker, "the engine was closed")

    def _start(self) -> WorkerProcess:
        return WorkerProcess(self._setup, self._hear, self._mourn)

    def _ready_worker(self) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            worker = self._worker
        worker.wait_ready()
        return worker

    def _add(self, request: Request, encoded: Encoded) -> Add:
        """The message for the other process."""
        slots = request.conversation.slots
        pictures = tuple(
            Picture(_name(request, request.images[slot.index]), start)
            for start, slot in zip(encoded.images, slots, strict=True)
        )
        ids = np.array(encoded.ids, dtype=np.int64)
        return Add(next(self._keys), ids, pictures, request.sampling, self._stop_ids)

    def _squares_of(self, request: Request) -> dict[str, NDArray[np.uint8]]:
        """uint8 (H, W, 3) of each image by name, cut as the checkpoint's processor does."""
        found: dict[str, NDArray[np.uint8]] = {}
        for image in request.images:
            name = _name(request, image)
            with self._lock:
                known = self._squares.get(name)
            if known is None:
                known = self._checkpoint.pixels.square(image)
                with self._lock:
                    self._squares.put(name, known)
            found[name] = known
        return found

    def _begin(
        self,
        worker: WorkerProcess,
        request: Request,
        add: Add,
        squares: Mapping[str, NDArray[np.uint8]],
    ) -> Stream:
        stream = ChunkStream(lambda: self._cancel(add.key))
        text, tape = self._admission.text(request.sampling), self._admission.tape(request.sampling)
        known = self._prefixes.ask(add.ids, add.pictures)
        with self._lock:
            self._answers[add.key] = _Answer(stream, text, tape, worker, add, squares, known)
        worker.send(add)
        if worker.ended:  # it died before this request was among those it took along
            self._end(add.key, "error", DIED)
        return stream

    def _cancel(self, key: int) -> None:
        answer = self._end(key, "cancelled")
        if answer is not None:
            answer.worker.send(Cancel(key))

    def _end(
        self,
        key: int,
        finish: Literal["stop", "length", "cancelled", "error"],
        error: str | None = None,
        text: str = "",
        asker: bool = False,
    ) -> _Answer | None:
        """Take the answer off the list and push its last chunk; None if it had ended before."""
        with self._lock:
            answer = self._answers.pop(key, None)
        if answer is not None:
            if finish != "error" and answer.tokens:
                computed = np.append(answer.add.ids, answer.tokens[:-1])
                self._prefixes.keep(computed, answer.add.pictures)
            logprobs = answer.tape.take(text, not answer.text.stopped) if answer.tape else ()
            answer.stream.push(Chunk(text, finish, answer.usage, error, logprobs, asker))
        return answer

    def _hear(self, message: Spoken | Want) -> None:
        """On the reading thread: what one step gave, or a wish for pixels."""
        if isinstance(message, Want):
            with self._lock:
                asker = self._answers.get(message.key)
            if asker is not None:
                asker.unseen = max(asker.unseen, message.unseen)
                if message.names:
                    squares = {name: asker.squares[name] for name in message.names}
                    asker.worker.send(Pixels(squares))
            return
        self._counts = message.counts
        for news in message.news:
            self._told(news)

    def _told(self, message: Tokens | Failed) -> None:
        """Turn one answer's tokens to text."""
        if isinstance(message, Failed):
            self._end(message.key, "error", message.sentence, asker=message.asker)
            return
        with self._lock:
            answer = self._answers.get(message.key)
        if answer is None:
            return
        answer.tokens += message.tokens
        shown = answer.text.feed([t for t in message.tokens if t not in self._stop_ids])
        if answer.tape:
            scored = zip(message.tokens, message.logprobs, strict=True)
            answer.tape.feed([Scored(t, p, {}) for t, p in scored if t not in self._stop_ids])
        if answer.text.stopped:
            self._end(message.key, "stop", text=shown)
            if message.finish is None:
                answer.worker.send(Cancel(message.key))
        elif message.finish is not None:
            rest = answer.text.flush(message.tokens[-1] if message.tokens else None)
            self._end(message.key, message.finish, text=shown + rest)
        elif shown:
            answer.stream.push(
                Chunk(shown, logprobs=answer.tape.take(shown) if answer.tape else ())
            )

    def _mourn(self, worker: WorkerProcess) -> None:
        """On the reading thread: the process has ended. Start the next one, then tell the users."""
        with self._lock:
            again = not self._closed and worker.folder is not None
            if again:
                self._worker = self._start()
                self._restarts += 1
            self._past_counts = _sum(self._past_counts, self._counts)
            self._counts = Counts()
        self._prefixes.clear()
        if again:
            _log.error("the engine's process %d ended; started %d", worker.pid, self.pid)
        self._fail_all(worker, DIED)

    def _fail_all(self, worker: WorkerProcess, sentence: str) -> None:
        with self._lock:
            keys = [key for key, answer in self._answers.items() if answer.worker is worker]
        for key in keys:
            self._end(key, "error", sentence)


def _setup(
    checkpoint: Checkpoint,
    precision: Precision,
    options: OpenVinoOptions,
    spelled: tuple[bytes, ...] | None,
) -> Setup:
    found = find_export(checkpoint, precision.weights)
    return Setup(
        checkpoint=str(checkpoint.path),
        template=checkpoint.provenance.template,
        weights=precision.weights,
        folder=None if found is None else str(found.folder),
        language=precision.language,
        vision=precision.vision,
        pixels=checkpoint.pixels,
        cache_blocks=_blocks(checkpoint, options),
        image_cache_bytes=options.image_cache_mib * MEBIBYTE * 4 // 5,
        threads=options.threads,
        grammar_seconds=options.grammar_seconds,
        spelled=spelled,
        end=next((token for token in checkpoint.stop_ids if token >= 0), 0),
    )


def _cache_tokens(checkpoint: Checkpoint, options: OpenVinoOptions) -> int:
    """How many tokens' keys and values (float32, the widest case) fit."""
    text = text_config(checkpoint.config)
    heads = int(text["num_attention_heads"])
    head = int(text.get("head_dim") or text["hidden_size"] // heads)
    kv_heads = int(text.get("num_key_value_heads") or heads)
    per_token = 2 * 4 * int(text["num_hidden_layers"]) * kv_heads * head
    if options.cache_mib is not None:
        return options.cache_mib * MEBIBYTE // per_token
    return max(2048 * MEBIBYTE // per_token, min(checkpoint.context, 8192) + 2 * BLOCK)


def _blocks(checkpoint: Checkpoint, options: OpenVinoOptions) -> int:
    """Blocks of the KV cache."""
    return _cache_tokens(checkpoint, options) // BLOCK


def _name(request: Request, image: RGBImage) -> str:
    """An image in the caches: whose it is, then its size, mode and pixels (their digest)."""
    return f"{request.owner}/{image.digest}"


def _sum(first: Counts, second: Counts) -> Counts:
    return Counts(first.images + second.images, first.known_images + second.known_images)


def _limits(checkpoint: Checkpoint, options: OpenVinoOptions) -> Limits:
    capacity = (_blocks(checkpoint, options) - 1) * BLOCK
    if capacity < checkpoint.context:
        return Limits(capacity, "the room in the engine's KV cache (cache_mib)")
    return Limits(checkpoint.context, "the model's context")
