"""Features of the frozen CLIP, computed once and kept: shared by epochs, stages and runs.

The key is the tower's own weights, its settings and the preparation of images, so a finetune finds
what its pretrain has cached, and another tower never does.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlavaForConditionalGeneration

from neva.cachedir import cache_dir
from neva.data.batch import Picture, PreparedImages
from neva.data.features import FeatureCache, Plan, cache_key
from neva.data.stores import ImageStore
from neva.errors import DataError, ImageError
from neva.model import Checkpoint, read_tensors
from neva.model.arrays import as_array
from neva.model.features import image_features
from neva.model.keys import VISION
from neva.train.ranks import Ranks

SAY_SECONDS = 30.0
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
    store: ImageStore,
    names: Sequence[str],
    say: Callable[[str], None],
    ranks: Ranks = Ranks(),
    *,
    batch_size: int = 32,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CachedPictures:
    """The features of `names`, computed where they are missing, every rank its share of them.

    All ranks must call it. The size is said, and a disk that is too small refused (DataError),
    before anything is written; without `progress` how far it is is said now and then.
    """
    images = PreparedImages(store, checkpoint.pixels)
    key = cache_key(tower_identity(checkpoint, model.dtype), images)
    cache = FeatureCache(cache_dir() / "features", key, images)
    wanted = list(dict.fromkeys(names))
    ranks.wait()  # until all have looked, so that shares are of one list

    def compute(squares: NDArray[np.uint8]) -> NDArray[Any]:
        return as_array(image_features(model, torch.from_numpy(squares), checkpoint.pixels))

    def announce(plan: Plan) -> None:
        size = plan.bytes * ranks.world
        say(
            f"caching CLIP features of {plan.images * ranks.world:,} images: {size / 1e6:,.0f} MB "
            f"in {plan.folder} ({plan.free / 1e9:,.0f} GB free)"
        )
        if size > plan.free:
            raise DataError(
                f"features of {plan.images * ranks.world:,} images take {size / 1e9:.1f} GB, and "
                f"{plan.folder} has {plan.free / 1e9:.1f} GB free; make room or train without the "
                "cache"
            )

    problems = cache.fill(
        wanted[ranks.rank :: ranks.world],
        compute,
        batch_size=batch_size,
        workers=workers,
        announce=announce,
        progress=progress or _Now(say),
    )
    ranks.wait()
    cache.look_again()
    if ranks.world > 1:  # what is still missing is broken: every rank learns why
        problems = cache.fill(wanted, compute, batch_size=batch_size, workers=workers)
        ranks.wait()
    return CachedPictures(cache, {problem.sample: problem.sentence for problem in problems})


class _Now:
    """Says how far the filling is, not too often."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.last = say, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.last > SAY_SECONDS:
            self.last = time.monotonic()
            self.say(f"features of {done:,} of {total:,} images")
