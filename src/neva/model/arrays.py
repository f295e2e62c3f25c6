"""torch tensors <-> numpy arrays without a copy where possible; bfloat16 is `ml_dtypes`'s."""

from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The same numbers as a numpy array on the CPU."""
    plain = tensor.detach().contiguous().cpu()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return plain.numpy()


def as_tensor(array: NDArray[Any]) -> Tensor:
    """The same numbers as a torch tensor on the CPU, its own memory."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.array(array).view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
