"""A cache of the frozen tower's features on disk, so that later epochs and runs skip CLIP.

Shards are safetensors files, complete as soon as they have their name. One is written when it is
big enough or a minute has passed, so a kill loses a minute's work at most, and several processes
may fill one cache. A feature is found by the digest of its image; the name, place,
size and time of the file are kept too, so that training need not decode an image to find it. The
cache belongs to a `key` (the tower's weights and the preprocessing) and is never used for another.

Shards were once written with names without a place (`names`), which two folders may share: of these
only the digests count, so their images are decoded once more and nothing is computed again.
"""

import json
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from neva.data.batch import Picture, PreparedImages, Problem
from neva.data.stores import Stamp
from neva.errors import DataError, ImageError

SHARD_BYTES = 512 * 2**20
SHARD_SECONDS = 60.0  # a shard is not kept in memory for longer
OPEN_SHARDS = 64  # memory maps at once, well below the usual limit of open files

Compute = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""(N, H, W, 3) uint8 squares -> (N, P, Dv) features, float32, float16 or ml_dtypes.bfloat16."""


@dataclass(frozen=True)
class Plan:
    """What filling a cache will take, told before it is taken."""

    images: int
    """Images still to compute."""
    bytes: int
    """Disk space for them."""
    free: int
    """Free disk space."""
    folder: Path


def cache_key(tower: str, images: PreparedImages) -> str:
    """The key of features of the tower with this identity (a hash) on images prepared so."""
    return sha256(f"{tower}\n{images.recipe.key}".encode()).hexdigest()


class FeatureCache:
    """Pictures with features, by the name in the record; `fill` adds what is missing."""

    def __init__(self, root: Path, key: str, images: PreparedImages) -> None:
        self.folder, self.key, self.images = root / key[:16], key, images
        self._digests: dict[tuple[str, Stamp], str] = {}  # (name, its file's stamp) -> digest
        self._rows: dict[str, tuple[Path, int]] = {}  # digest -> shard, row
        self._map = lru_cache(maxsize=OPEN_SHARDS)(_map)
        self._learnt: set[Path] = set()
        self.look_again()

    def look_again(self) -> None:
        """Take in shards that other processes have finished."""
        for shard in sorted(self.folder.glob("features-*.safetensors")):
            if shard not in self._learnt:
                self._learn(shard)

    def __call__(self, name: str) -> Picture:
        """The cached feature (P, Dv) of an image. Raises DataError if it is not there."""
        digest = self._known(name)
        if digest is None:
            raise DataError(
                f"{self.images.store.where(name)} has no features in the cache (it is new, changed "
                "or broken); fill the cache again"
            )
        shard, row = self._rows[digest]
        return Picture(digest, features=np.array(self._map(shard)[row]))

    def __len__(self) -> int:
        """Different images in the cache."""
        return len(self._rows)

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names, each once, whose features are not cached."""
        return [name for name in dict.fromkeys(names) if self._known(name) is None]

    def fill(
        self,
        names: Sequence[str],
        compute: Compute,
        *,
        batch_size: int = 32,
        workers: int = 2,
        announce: Callable[[Plan], None] = lambda plan: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Problem]:
        """Compute and store what is missing; images that cannot be read come back as problems.

        `announce` is told the size before anything is written. `workers` threads decode the images
        of the next batch while one is computed. Raises DataError if the disk is too small. May be
        called again after a kill: finished shards count.
        """
        wanted = self.missing(names)
        problems: list[Problem] = []
        shard = _Shard()
        announced = False
        done = 0
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for group in self._ahead(pool, wanted, batch_size):
                read = self._fresh(group, shard, problems)
                if read:
                    features = compute(np.stack(list(read.values())))
                    if not announced:
                        self._announce(features, len(wanted) - done, announce)
                        announced = True
                    shard.add(list(read), features)
                done += len(group)
                progress(done, len(wanted))
                if shard.full:
                    self._write(shard)
                    shard = _Shard()
        if shard.places:
            self._write(shard)
        return problems

    def _known(self, name: str) -> str | None:
        """The digest of a picture whose features are cached."""
        stamp = self.images.store.stamp(name)
        return None if stamp is None else self._digests.get((name, stamp))

    def _ahead(
        self, pool: ThreadPoolExecutor, names: Sequence[str], size: int
    ) -> Iterator[list[tuple[str, "Picture | ImageError"]]]:
        """Groups of pictures, or what is wrong with them, the next one being read meanwhile."""
        groups = [names[start : start + size] for start in range(0, len(names), size)]
        waiting: list[Future[Picture | ImageError]] = []
        for number, group in enumerate(groups):
            mine = waiting or [pool.submit(self._try, name) for name in group]
            following = groups[number + 1] if number + 1 < len(groups) else []
            waiting = [pool.submit(self._try, name) for name in following]
            yield [(name, future.result()) for name, future in zip(group, mine, strict=True)]

    def _try(self, name: str) -> "Picture | ImageError":
        try:
            return self.images(name)
        except ImageError as error:
            return error

    def _fresh(
        self,
        group: Sequence[tuple[str, "Picture | ImageError"]],
        shard: "_Shard",
        problems: list[Problem],
    ) -> dict[str, NDArray[np.uint8]]:
        """Digest -> square of the images that are not cached under another name."""
        fresh: dict[str, NDArray[np.uint8]] = {}
        for name, picture in group:
            stamp = self.images.store.stamp(name)
            if isinstance(picture, ImageError) or stamp is None:
                why = str(picture) if isinstance(picture, ImageError) else f"{name} has vanished"
                problems.append(Problem(name, why, name))
                continue
            shard.places[name] = picture.digest, stamp
            if picture.digest not in self._rows and picture.digest not in shard.digests:
                assert picture.square is not None
                fresh[picture.digest] = picture.square
        return fresh

    def _announce(
        self, features: NDArray[Any], images: int, announce: Callable[[Plan], None]
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        plan = Plan(images, features[0].nbytes * images, free, self.folder)
        announce(plan)
        if plan.bytes > free:
            raise DataError(
                f"features of {images:,} images take {plan.bytes / 1e9:.1f} GB, and {self.folder} "
                f"has {free / 1e9:.1f} GB free; make room or train without the cache"
            )

    def _write(self, shard: "_Shard") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        before = [int(file.stem.split("-")[1]) for file in self.folder.glob("features-*")]
        name = f"features-{1 + max(before, default=-1):05d}-{secrets.token_hex(4)}"
        final = self.folder / f"{name}.safetensors"
        aside = final.with_suffix(".writing")
        shard.save(aside, self.key)
        aside.rename(final)
        self._learn(final)

    def _learn(self, path: Path) -> None:
        """Take in the index of a finished shard."""
        told = _header(path)["__metadata__"]
        if told["key"] != self.key:
            raise DataError(f"{path} is of another vision tower; remove the folder")
        for row, digest in enumerate(json.loads(told["digests"])):
            self._rows[digest] = path, row
        for name, (digest, root, size, time_ns) in json.loads(told.get("places", "{}")).items():
            self._digests[name, (sys.intern(root), size, time_ns)] = digest
        self._learnt.add(path)


class _Shard:
    """Features gathered for one file."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[str, Stamp]] = {}  # name -> digest, stamp
        self.digests: dict[str, None] = {}
        self.features: list[NDArray[Any]] = []
        self.bytes = 0
        self.begun = time.monotonic()

    @property
    def full(self) -> bool:
        """Whether it is time to write it."""
        late = bool(self.places) and time.monotonic() - self.begun > SHARD_SECONDS
        return late or self.bytes >= SHARD_BYTES

    def add(self, digests: Sequence[str], features: NDArray[Any]) -> None:
        if features.ndim != 3 or len(features) != len(digests):
            raise ValueError(f"features are {features.shape} for {len(digests)} images")
        self.digests.update(dict.fromkeys(digests))
        self.features.append(features)
        self.bytes += features.nbytes

    def save(self, path: Path, key: str) -> None:
        whole = np.concatenate(self.features) if self.features else np.zeros((0, 0, 0), np.float32)
        places = {name: (digest, *stamp) for name, (digest, stamp) in self.places.items()}
        bits = whole.view(np.uint16) if whole.dtype == ml_dtypes.bfloat16 else whole
        told = {
            "key": key,
            "dtype": whole.dtype.name,
            "digests": json.dumps(list(self.digests)),
            "places": json.dumps(places),
        }
        save_file({"features": np.ascontiguousarray(bits)}, path, metadata=told)


def _header(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: Mapping[str, Any] = json.loads(file.read(length))
    return header


def _map(path: Path) -> NDArray[Any]:
    """The features of a shard (N, P, Dv), mapped, not read."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    header = _header(path)
    dtype = np.dtype(header["__metadata__"]["dtype"])
    return np.memmap(path, dtype, "r", start, tuple(header["features"]["shape"]))
