"""The embedded default engine on CPU: openvino-genai in a process of its own.

Here, in the caller's process: checks, tokens, pixels, text. There (worker.py): the model. Whole
conversations are sent each turn; the KV cache over there recognises what it has seen.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Literal

import numpy as np

from neva.engine.admission import Admission, Limits
from neva.engine.decode import AnswerText
from neva.engine.graphs import find_export
from neva.engine.lru import ArrayCache
from neva.engine.messages import Add, Cancel, Failed, Picture, Setup, Tokens
from neva.engine.precision import Precision, precision_named
from neva.engine.protocol import Chunk, EngineInfo, Request, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.engine.worker_process import WorkerProcess
from neva.errors import EngineError
from neva.images.image import RGBImage
from neva.model.checkpoint import Checkpoint
from neva.model.shapes import text_config
from neva.prompts import Encoded

_log = logging.getLogger("neva.engine")
BLOCK = 32  # tokens per KV block of the CPU plugin
MEBIBYTE = 2**20
DIED = "the engine's process ended while answering; it is being started again, ask once more"


@dataclass(frozen=True)
class OpenVinoOptions:
    """Sizes: KV cache (its memory is used as it fills), images kept encoded, CPU threads.

    `cache_mib` None: 2 GiB, or more where that would not hold one conversation of 8192 tokens.
    """

    cache_mib: int | None = None
    image_cache_mib: int = 256
    threads: int | None = None


@dataclass
class _Answer:
    """One answer under way."""

    stream: ChunkStream
    text: AnswerText
    worker: WorkerProcess
    prompt_tokens: int
    tokens: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt_tokens, self.tokens)


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
        self._setup = lambda: _setup(checkpoint, row, options)
        self._admission = Admission(checkpoint, _limits(checkpoint, options))
        self._info = EngineInfo(
            name=name or checkpoint.path.name,
            engine="openvino",
            precision=row.name,
            context=checkpoint.context,
            image_tokens=checkpoint.image_tokens,
            reproducible=row.reproducible,
        )
        self._lock = Lock()
        self._keys = count()
        self._answers: dict[int, _Answer] = {}
        self._pixels = ArrayCache(64 * MEBIBYTE)
        self._closed = False
        self._worker = self._start()
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

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        """Start answering; NevaError, and nothing started, if one of them never can be."""
        encoded = [self._admission.admit(request) for request in requests]
        adds = [self._add(request, ids) for request, ids in zip(requests, encoded, strict=True)]
        worker = self._ready_worker()
        return [
            self._begin(worker, request, add) for request, add in zip(requests, adds, strict=True)
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
            Picture(image.digest, self._prepared(image), start)
            for start, image in zip(
                encoded.images, (request.images[slot.index] for slot in slots), strict=True
            )
        )
        ids = np.array(encoded.ids, dtype=np.int64)
        return Add(next(self._keys), ids, pictures, request.sampling, self._stop_ids)

    def _prepared(self, image: RGBImage) -> np.ndarray:  # type: ignore[type-arg]
        """float32 (3, H, W), as the checkpoint's processor makes it."""
        with self._lock:
            known = self._pixels.get(image.digest)
        if known is None:
            known = self._checkpoint.pixels.pixels(image)
            with self._lock:
                self._pixels.put(image.digest, known)
        return known

    def _begin(self, worker: WorkerProcess, request: Request, add: Add) -> Stream:
        stream = ChunkStream(lambda: self._cancel(add.key))
        text = self._admission.text(request.sampling)
        with self._lock:
            self._answers[add.key] = _Answer(stream, text, worker, len(add.ids))
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
    ) -> _Answer | None:
        """Take the answer off the list and push its last chunk; None if it had ended before."""
        with self._lock:
            answer = self._answers.pop(key, None)
        if answer is not None:
            answer.stream.push(Chunk(text, finish, answer.usage, error))
        return answer

    def _hear(self, message: Tokens | Failed) -> None:
        """On the reading thread: turn tokens to text."""
        if isinstance(message, Failed):
            self._end(message.key, "error", message.sentence)
            return
        with self._lock:
            answer = self._answers.get(message.key)
        if answer is None:
            return
        answer.tokens += len(message.tokens)
        shown = answer.text.feed([t for t in message.tokens if t not in self._stop_ids])
        if answer.text.stopped:
            self._end(message.key, "stop", text=shown)
            if message.finish is None:
                answer.worker.send(Cancel(message.key))
        elif message.finish is not None:
            self._end(message.key, message.finish, text=shown + answer.text.flush())
        elif shown:
            answer.stream.push(Chunk(shown))

    def _mourn(self, worker: WorkerProcess) -> None:
        """On the reading thread: the process has ended. Start the next one, then tell the users."""
        with self._lock:
            again = not self._closed and worker.folder is not None
            if again:
                self._worker = self._start()
        if again:
            _log.error("the engine's process %d ended; started %d", worker.pid, self.pid)
        self._fail_all(worker, DIED)

    def _fail_all(self, worker: WorkerProcess, sentence: str) -> None:
        with self._lock:
            keys = [key for key, answer in self._answers.items() if answer.worker is worker]
        for key in keys:
            self._end(key, "error", sentence)


def _setup(checkpoint: Checkpoint, precision: Precision, options: OpenVinoOptions) -> Setup:
    found = find_export(checkpoint, precision.weights)
    return Setup(
        checkpoint=str(checkpoint.path),
        template=checkpoint.provenance.template,
        weights=precision.weights,
        folder=None if found is None else str(found.folder),
        language=precision.language,
        vision=precision.vision,
        cache_blocks=_cache_tokens(checkpoint, options) // BLOCK,
        image_cache_bytes=options.image_cache_mib * MEBIBYTE,
        threads=options.threads,
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


def _limits(checkpoint: Checkpoint, options: OpenVinoOptions) -> Limits:
    capacity = (_cache_tokens(checkpoint, options) // BLOCK - 1) * BLOCK
    if capacity < checkpoint.context:
        return Limits(capacity, "the room in the engine's KV cache (cache_mib)")
    return Limits(checkpoint.context, "the model's context")
