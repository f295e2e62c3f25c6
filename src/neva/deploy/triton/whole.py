"""The model `neva_whole` in Triton: one response for a request. Imported by Triton only.

Triton's `/infer` over HTTP and clients without streams take no decoupled model; this one asks
`neva`, in the same Triton, and holds no weights. An instance waits while its answer is made, so
there are several.
"""

from collections.abc import Sequence
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import triton_python_backend_utils as pb

from neva.deploy.triton.ask import INPUTS, OUTPUTS
from neva.deploy.triton.inner import KEY, LEFT, unmarked
from neva.deploy.triton.orphan import end_with_parent

LOOKING_S = 0.5
"""How often it is asked whether a client has left."""


class TritonPythonModel:
    """Passes a request to `neva` and its whole answer back."""

    def initialize(self, args: dict[str, str]) -> None:
        """Nothing is opened."""
        end_with_parent()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request."""
        return [_asked(request) for request in requests]


def _asked(request: Any) -> Any:
    """The answer of `neva`, made in one piece, or ended there when the client leaves."""
    key, done = uuid4().hex, Event()
    watch = Thread(target=_watch, args=(request, key, done), name="neva-watch", daemon=True)
    watch.start()
    try:
        return _answer(request, key)
    finally:
        done.set()
        watch.join()


def _answer(request: Any, key: str) -> Any:
    names = [one.name for one in INPUTS if one.name != "streaming"]
    sent = [pb.get_input_tensor_by_name(request, name) for name in names]
    answer = None
    for response in _exec([tensor for tensor in sent if tensor is not None], {KEY: key}):
        if response.has_error():
            code, sentence = unmarked(response.error().message())
            return pb.InferenceResponse(
                error=pb.TritonError(sentence, getattr(pb.TritonError, code))
            )
        if response.output_tensors():  # the last one may be empty
            answer = pb.InferenceResponse(output_tensors=response.output_tensors())
    return answer or pb.InferenceResponse(error=pb.TritonError("the answer was lost"))


def _watch(request: Any, key: str, done: Event) -> None:
    """Tell `neva` when the client has left, where Triton knows it; `done` ends the watch."""
    while not done.wait(LOOKING_S):
        if request.is_cancelled():
            for _ in _exec([], {LEFT: key}):
                pass
            return


def _exec(inputs: Sequence[Any], parameters: dict[str, str]) -> Any:
    """Responses of `neva`, as they come."""
    inner = pb.InferenceRequest(
        model_name="neva",
        inputs=list(inputs),
        requested_output_names=[one.name for one in OUTPUTS],
        parameters=parameters,
    )
    return inner.exec(decoupled=True)
