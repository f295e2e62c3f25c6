"""Between Triton's tensors and Python's values. Imported by Triton only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from neva.deploy.triton.ask import OUTPUTS, Tensor

DTYPES = {"STRING": np.object_, "INT32": np.int32}


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of `config.pbtxt`."""
    return {name: said["string_value"] for name, said in config.get("parameters", {}).items()}


def values_of(request: Any, inputs: Sequence[Tensor]) -> dict[str, list[Any]]:
    """Each input that was sent, as a flat list of bytes, bool, int or float."""
    values = {}
    for one in inputs:
        tensor = pb.get_input_tensor_by_name(request, one.name)
        if tensor is not None:
            values[one.name] = tensor.as_numpy().reshape(-1).tolist()
    return values


def tensors_of(values: Sequence[str | int]) -> list[Any]:
    """The outputs, in their order, each of one element."""
    tensors = []
    for one, value in zip(OUTPUTS, values, strict=True):
        element = value.encode("utf-8") if isinstance(value, str) else value
        tensors.append(pb.Tensor(one.name, np.array([element], dtype=DTYPES[one.kind])))
    return tensors
