"""Features of the frozen CLIP, computed once and kept: shared by epochs, stages and runs.

The key is the tower's own weights, its settings and the preparation of images, so a finetune finds
what its pretrain has cached, and another tower never does.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neva.cachedir import cache_dir
from neva.data.batch import Picture, PreparedImages, Problem
from neva.data.features import FeatureCache, Plan, cache_key
from neva.data.stores import ImageStore
from neva.errors import DataError, ImageError
from neva.train.ranks import Ranks
from neva.train.tower import Tower

SAY_SECONDS = 30.0


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


def cached_features(
    tower: Tower,
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

    All ranks must call it; what stops one (DataError) stops all. The size is said, and a disk that
    is too small refused, before anything is written; without `progress` how far it is is said now
    and then.
    """
    images = PreparedImages(store, tower.checkpoint.pixels)
    key = cache_key(tower.identity, images)
    cache = FeatureCache(cache_dir() / "features", key, images)
    missing = cache.missing(names)
    ranks.wait()  # until all have looked, so that shares are of one list
    filling = _Filling(cache, tower, ranks, say, batch_size, workers, progress or _Now(say))
    broken = filling.fill(missing[ranks.rank :: ranks.world])
    if ranks.world > 1:
        cache.look_again()
        # Machines that share no disk each compute what the others have; elsewhere nothing is left.
        broken |= filling.fill([name for name in cache.missing(missing) if name not in broken])
    return CachedPictures(cache, broken)


@dataclass(frozen=True)
class _Filling:
    """How a cache is filled by several ranks."""

    cache: FeatureCache
    tower: Tower
    ranks: Ranks
    say: Callable[[str], None]
    batch_size: int
    workers: int
    progress: Callable[[int, int], None]

    def fill(self, names: Sequence[str]) -> dict[str, str]:
        """Compute `names`; why which images of all ranks cannot be read."""
        problems, failure = list[Problem](), ""
        try:
            problems = self.cache.fill(
                names,
                self.tower.features,
                batch_size=self.batch_size,
                workers=self.workers,
                announce=self._announce,
                progress=self.progress,
            )
        except DataError as error:
            failure = str(error)
        told = self.ranks.gather((failure, {p.sample: p.sentence for p in problems}))
        for failed, _ in told:
            if failed:
                raise DataError(failed)
        return {name: why for _, broken in told for name, why in broken.items()}

    def _announce(self, plan: Plan) -> None:
        world = self.ranks.world
        size = plan.bytes * world
        self.say(
            f"caching CLIP features of {plan.images * world:,} images: {size / 1e6:,.0f} MB "
            f"in {plan.folder} ({plan.free / 1e9:,.0f} GB free)"
        )
        if size > plan.free:
            raise DataError(
                f"features of {plan.images * world:,} images take {size / 1e9:.1f} GB, and "
                f"{plan.folder} has {plan.free / 1e9:.1f} GB free; make room or train without the "
                "cache"
            )


class _Now:
    """Says how far the filling is, not too often."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.last = say, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.last > SAY_SECONDS:
            self.last = time.monotonic()
            self.say(f"features of {done:,} of {total:,} images")
