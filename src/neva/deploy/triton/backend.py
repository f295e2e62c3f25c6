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

import triton_python_backend_utils as pb

from neva.deploy.triton.ask import INPUTS, TritonAsk, read_ask
from neva.deploy.triton.metrics import TritonMetrics
from neva.deploy.triton.tensors import parameters, tensors_of, values_of
from neva.engine import open_engine
from neva.engine.protocol import Chunk, Usage
from neva.errors import NevaError
from neva.server.errors import ApiError
from neva.server.settings import Limits

_log = logging.getLogger("neva.triton")
BUSY = (429, 503)


class TritonPythonModel:
    """The model `neva`: decoupled, a response for each piece of an answer."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the checkpoint that `config.pbtxt` names, relative to the model's folder."""
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

    def execute(self, requests: Sequence[Any]) -> None:
        """Take requests; their answers come later."""
        for request in requests:
            sender = request.get_response_sender()
            if not self._room.acquire(blocking=False):
                _refuse(sender, ApiError(429, "the server is busy; try again in a moment"))
                continue
            try:
                self._threads.submit(self._answer, values_of(request, INPUTS), sender)
            except BaseException:
                self._room.release()
                raise

    def finalize(self) -> None:
        """Answers under way end with an error."""
        self._engine.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _answer(self, values: Any, sender: Any) -> None:
        try:
            asked = read_ask(values, self._engine.info, self._limits)
            _send(self._engine.generate([asked.request])[0], asked, sender, self._ended)
        except (NevaError, ApiError) as error:
            _refuse(sender, error)
        except Exception:
            _log.exception("an answer failed")  # the asker learns nothing of the host
            _refuse(sender, ApiError(500, "the server failed; its log tells why"))
        finally:
            self._room.release()

    def _ended(self, usage: Usage) -> None:
        read: Callable[[], Mapping[str, float]] = getattr(self._engine, "figures", dict)
        self._metrics.tell(usage, read())


def _send(stream: Any, asked: TritonAsk, sender: Any, ended: Callable[[Usage], None]) -> None:
    """The answer in pieces, or whole; the engine stops if the asker has left."""
    said: list[str] = []
    for chunk in stream:
        if chunk.finish is None and sender.is_cancelled():
            stream.cancel()
        if chunk.finish == "error":
            raise ApiError(400 if chunk.asker else 503, chunk.error or "the engine failed")
        if chunk.usage is not None:
            ended(chunk.usage)
        said.append(chunk.text)
        if chunk.finish is not None or asked.streaming:
            _respond(sender, "".join(said), chunk)
            said.clear()


def _respond(sender: Any, text: str, chunk: Chunk) -> None:
    usage = chunk.usage or Usage(0, 0)
    values = (text, chunk.finish or "", usage.prompt_tokens, usage.completion_tokens)
    final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if chunk.finish else 0
    sender.send(pb.InferenceResponse(output_tensors=tensors_of(values)), flags=final)


def _refuse(sender: Any, error: NevaError | ApiError) -> None:
    """The error as Triton's own kind: the asker's, of a busy server, or ours."""
    status = error.status if isinstance(error, NevaError) else error.status_code
    code = pb.TritonError.INVALID_ARG if status < 500 else pb.TritonError.INTERNAL
    if status in BUSY:
        code = pb.TritonError.UNAVAILABLE
    sentence = str(error) if isinstance(error, NevaError) else str(error.detail)
    response = pb.InferenceResponse(error=pb.TritonError(sentence, code))
    sender.send(response, flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
