"""The frozen CLIP by itself: in memory from its first image until it is let go.

Where features are cached it looks at what is new and leaves before the language model comes, so
that the two are never in memory together; where nothing is new it is never loaded.
"""

import hashlib
import json
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlavaForConditionalGeneration

from neva.model import Checkpoint, read_tensors
from neva.model.arrays import as_array
from neva.model.features import image_features
from neva.model.keys import VISION
from neva.model.load import load_model
from neva.train.memory import prepare_cpu, return_freed_memory
from neva.train.packed import pack_frozen

_SETTINGS = ("vision_config", "vision_feature_layer", "vision_feature_select_strategy")


class Tower:
    """`checkpoint`'s vision tower, computing in `dtype` on `device`."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> None:
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self._model: LlavaForConditionalGeneration | None = None

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._model is not None

    @cached_property
    def identity(self) -> str:
        """Hash of its weights, its settings and the dtype it computes in."""
        return tower_identity(self.checkpoint, self.dtype)

    def features(self, squares: NDArray[np.uint8]) -> NDArray[Any]:
        """(N, H, W, 3) -> (N, P, Dv), as `neva.model.features` makes them."""
        if self._model is None:
            if self.device == "cpu":
                prepare_cpu()
            self._model = load_model(self.checkpoint, self.device, self.dtype, without=["language"])
            if self.device == "cpu":
                pack_frozen(self._model.requires_grad_(False), gradient=False)
        pixels = self.checkpoint.pixels
        return as_array(image_features(self._model, torch.from_numpy(squares), pixels))

    def let_go(self) -> None:
        """Free its memory, also for other processes; it comes back when it is asked again."""
        if self._model is not None:
            self._model = None
            return_freed_memory()
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()


def tower_identity(checkpoint: Checkpoint, dtype: torch.dtype) -> str:
    """Hash of the vision tower: its weights, its settings and the dtype it computes in."""
    digest = hashlib.sha256(str(dtype).encode())
    settings = {name: checkpoint.config.get(name) for name in _SETTINGS}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    tensors = read_tensors(checkpoint)
    for name in sorted(name for name in tensors if name.startswith(VISION)):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).view(np.uint8).data)
    return digest.hexdigest()
