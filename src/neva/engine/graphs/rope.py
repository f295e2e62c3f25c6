"""Rotary positions of the llama-like families: the frequencies that a config asks for."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neva.errors import CheckpointError


def frequencies(config: Mapping[str, Any], head: int) -> NDArray[np.float32]:
    """The LM config's rotary frequencies, (head / 2,).

    Reads both spellings: `rope_parameters` (transformers 5) and `rope_theta` + `rope_scaling`.
    CheckpointError for a scaling that is not default, linear or llama3.
    """
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    plain = 1.0 / theta ** (np.arange(0, head, 2, dtype=np.float32) / np.float32(head))
    plain = plain.astype(np.float32)
    if kind == "default":
        return plain
    if kind == "linear":
        return (plain / np.float32(scaling["factor"])).astype(np.float32)
    if kind == "llama3":
        return _llama3(plain, scaling)
    raise CheckpointError(
        f"config.json: rotary scaling {kind!r} is not supported by the openvino engine "
        "(default, linear and llama3 are): use `--engine torch`"
    )


def _llama3(plain: NDArray[np.float32], scaling: Mapping[str, Any]) -> NDArray[np.float32]:
    """Llama 3.1: divide the low frequencies by `factor`, keep the high ones, blend between."""
    factor, original = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    wavelength = 2 * math.pi / plain
    blend = np.clip((original / wavelength - low) / (high - low), 0, 1)
    scaled: NDArray[np.float32] = (1 - blend) * plain / factor + blend * plain
    return scaled.astype(np.float32)
