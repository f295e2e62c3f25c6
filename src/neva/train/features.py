"""Features of the frozen CLIP, computed once and kept: shared by epochs, stages and runs.

The key is the tower's own weights, its settings and the preparation of images, so a finetune finds
what its pretrain has cached, and another tower never does.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlavaForConditionalGeneration

from neva.cachedir import cache_dir
from neva.data.batch import ImageFolder, Picture, Problem
from neva.data.features import FeatureCache, Plan, cache_key
from neva.errors import ImageError
from neva.model import Checkpoint, read_tensors
from neva.model.arrays import as_array
from neva.model.features import image_features
from neva.model.keys import VISION

_SETTINGS = ("vision_config", "vision_feature_layer", "vision_feature_select_strategy")


@dataclass(frozen=True)
class CachedPictures:
    """Features by image name; an image that could not be read says why."""

    cache: FeatureCache
    broken: Mapping[str, str]

    def __call__(self, name: str) -> Picture:
        """The picture's features. Raises ImageError or DataError, naming the file."""
        if name in self.broken:
            raise ImageError(self.broken[name])
        return self.cache(name)


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


def cached_features(
    model: LlavaForConditionalGeneration,
    checkpoint: Checkpoint,
    images: Path,
    names: Sequence[str],
    say: Callable[[str], None],
    batch_size: int = 32,
) -> tuple[FeatureCache, list[Problem]]:
    """A cache that holds the features of `names`, and the images that could not be read."""
    folder = ImageFolder(images, checkpoint.pixels)
    key = cache_key(tower_identity(checkpoint, model.dtype), folder)
    cache = FeatureCache(cache_dir() / "features", key, folder)

    def compute(squares: NDArray[np.uint8]) -> NDArray[Any]:
        return as_array(image_features(model, torch.from_numpy(squares), checkpoint.pixels))

    def announce(plan: Plan) -> None:
        say(
            f"caching CLIP features of {plan.images:,} images: {plan.bytes / 1e6:,.0f} MB in "
            f"{plan.folder} ({plan.free / 1e9:,.0f} GB free)"
        )

    problems = cache.fill(names, compute, batch_size=batch_size, announce=announce)
    return cache, problems
