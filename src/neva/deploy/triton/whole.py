"""The model `neva_whole` in Triton: one response for a request. Imported by Triton only.

Triton's `/infer` over HTTP and clients without streams take no decoupled model; this one asks
`neva`, in the same Triton, and holds no weights. An instance waits while its answer is made, so
there are several.
"""

from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb

from neva.deploy.triton.ask import INPUTS, OUTPUTS


class TritonPythonModel:
    """Passes a request to `neva` and its whole answer back."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request."""
        return [_asked(request) for request in requests]


def _asked(request: Any) -> Any:
    """The answer of `neva`, made in one piece."""
    names = [one.name for one in INPUTS if one.name != "streaming"]
    sent = [pb.get_input_tensor_by_name(request, name) for name in names]
    inner = pb.InferenceRequest(
        model_name="neva",
        inputs=[tensor for tensor in sent if tensor is not None],
        requested_output_names=[one.name for one in OUTPUTS],
    )
    answer = None
    for response in inner.exec(decoupled=True):
        if response.has_error():
            return pb.InferenceResponse(error=response.error())
        if response.output_tensors():  # the last one may be empty
            answer = pb.InferenceResponse(output_tensors=response.output_tensors())
    return answer or pb.InferenceResponse(error=pb.TritonError("the answer was lost"))
