"""Who asked `neva`: where an answer goes, and whether someone still waits for it.

Imported by Triton only.
"""

import json
from threading import Event
from typing import Any

import triton_python_backend_utils as pb

from neva.deploy.triton.inner import KEY, LEFT, marked
from neva.deploy.triton.tensors import tensors_of
from neva.engine.protocol import Chunk, Usage
from neva.errors import NevaError
from neva.server.errors import ApiError

BUSY = (429, 503)


class Asker:
    """Triton's sender of responses, and what `neva_whole` said beside its tensors."""

    def __init__(self, request: Any) -> None:
        told = json.loads(request.parameters() or "{}")
        self.key = str(told.get(KEY, ""))
        """Of `neva_whole`'s request; else empty."""
        self.ends = str(told.get(LEFT, ""))
        """The key of the request that this one ends; it is no question then."""
        self._sender = request.get_response_sender()
        self._left = Event()

    @property
    def gone(self) -> bool:
        """Whether the client has left; Triton knows it of streams, `neva_whole` tells its own."""
        return self._left.is_set() or bool(self._sender.is_cancelled())

    def leave(self) -> None:
        """The client has left."""
        self._left.set()

    def tell(self, text: str, chunk: Chunk) -> None:
        """A piece of the answer, the last one if the chunk is."""
        usage = chunk.usage or Usage(0, 0)
        values = (text, chunk.finish or "", usage.prompt_tokens, usage.completion_tokens)
        final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if chunk.finish else 0
        self._sender.send(pb.InferenceResponse(output_tensors=tensors_of(values)), flags=final)

    def refuse(self, error: NevaError | ApiError) -> None:
        """The error as Triton's own kind: the asker's, of a busy server, or ours."""
        status = error.status if isinstance(error, NevaError) else error.status_code
        code = "INVALID_ARG" if status < 500 else "INTERNAL"
        if status in BUSY:
            code = "UNAVAILABLE"
        sentence = str(error) if isinstance(error, NevaError) else str(error.detail)
        if self.key:
            sentence = marked(code, sentence)
        told = pb.TritonError(sentence, getattr(pb.TritonError, code))
        final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        self._sender.send(pb.InferenceResponse(error=told), flags=final)

    def end(self) -> None:
        """No answer at all."""
        self._sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
