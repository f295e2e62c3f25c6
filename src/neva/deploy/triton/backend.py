"""Triton's python backend: an engine of ours that answers in pieces. Imported by Triton only.

`execute` must return at once, or nothing else is taken meanwhile: requests are read and answered in
threads, as many as the server's limits allow, and the engine batches them. More wait, and more than
those are refused as unavailable.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from neva.deploy.triton.ask import INPUTS, Values, read_ask
from neva.deploy.triton.asker import Asker
from neva.deploy.triton.metrics import TritonMetrics
from neva.deploy.triton.orphan import end_with_parent
from neva.deploy.triton.tensors import parameters, values_of
from neva.engine import open_engine
from neva.engine.protocol import Stream, Usage
from neva.errors import NevaError
from neva.server.errors import ApiError
from neva.server.settings import Limits, Settings

_log = logging.getLogger("neva.triton")


class TritonPythonModel:
    """The model `neva`: decoupled, a response for each piece of an answer."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the checkpoint that `config.pbtxt` names, relative to the model's folder."""
        end_with_parent()
        said = parameters(json.loads(args["model_config"]))
        self._limits = Limits()
        self._engine = open_engine(
            Path(args["model_repository"], said["checkpoint"]).resolve(),
            said["engine"],
            said.get("precision") or None,
            threads=int(said["threads"]) if said.get("threads") else None,
            served_name=args["model_name"],
        )
        self._metrics = TritonMetrics(args["model_name"])
        self._room = BoundedSemaphore(self._limits.running + self._limits.waiting)
        self._threads = ThreadPoolExecutor(self._limits.running, "neva-answer")
        self._readers = ThreadPoolExecutor(Settings().readers, "neva-reader")
        self._inner: dict[str, Asker] = {}  # those of `neva_whole`, by their keys

    def execute(self, requests: Sequence[Any]) -> None:
        """Take requests; their answers come later."""
        for request in requests:
            asker = Asker(request)
            if asker.ends:
                self._end(asker)
            elif self._room.acquire(blocking=False):
                self._take(request, asker)
            else:
                asker.refuse(ApiError(429, "the server is busy; try again in a moment"))

    def finalize(self) -> None:
        """Answers under way end with an error."""
        self._engine.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._readers.shutdown()

    def _end(self, asker: Asker) -> None:
        """`neva_whole` says that the client of one of its requests has left."""
        if (other := self._inner.get(asker.ends)) is not None:
            other.leave()
        asker.end()

    def _take(self, request: Any, asker: Asker) -> None:
        try:
            if asker.key:
                self._inner[asker.key] = asker
            self._threads.submit(self._answer, values_of(request, INPUTS), asker)
        except BaseException:
            self._forget(asker)
            raise

    def _forget(self, asker: Asker) -> None:
        self._inner.pop(asker.key, None)
        self._room.release()

    def _answer(self, values: Values, asker: Asker) -> None:
        try:
            begun = self._readers.submit(self._begin, values).result()
            _send(*begun, asker, self._ended)
        except (NevaError, ApiError) as error:
            asker.refuse(error)
        except Exception:
            _log.exception("an answer failed")  # the asker learns nothing of the host
            asker.refuse(ApiError(500, "the server failed; its log tells why"))
        finally:
            self._forget(asker)

    def _begin(self, values: Values) -> tuple[Stream, bool]:
        """The answer, and whether it is to come in pieces.

        Read and handed over in one go: no more requests than readers hold decoded images. Each
        thread that has decoded keeps some of the memory, so these are few.
        """
        asked = read_ask(values, self._engine.info, self._limits)
        return self._engine.generate([asked.request])[0], asked.streaming

    def _ended(self, usage: Usage) -> None:
        read: Callable[[], Mapping[str, float]] = getattr(self._engine, "figures", dict)
        self._metrics.tell(usage, read())


def _send(stream: Stream, streaming: bool, asker: Asker, ended: Callable[[Usage], None]) -> None:
    """The answer in pieces, or whole; the engine stops if the asker has left."""
    said: list[str] = []
    for chunk in stream:
        if chunk.finish is None and asker.gone:
            stream.cancel()
        if chunk.finish == "error":
            raise ApiError(400 if chunk.asker else 503, chunk.error or "the engine failed")
        if chunk.usage is not None:
            ended(chunk.usage)
        said.append(chunk.text)
        if chunk.finish is not None or streaming:
            asker.tell("".join(said), chunk)
            said.clear()
