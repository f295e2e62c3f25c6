"""A cache of the frozen tower's features on disk, so that later epochs and runs skip CLIP.

Shards are safetensors files, complete as soon as they have their name; whatever was cached when a
run was killed is there when it goes on. A feature is found by the digest of its image; the name,
size and time of the file are kept too, so that training need not decode an image to find it. The
cache belongs to a `key` (the tower's weights and the preprocessing) and is never used for another.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from neva.data.batch import ImageFolder, Picture, Problem
from neva.errors import DataError, ImageError

SHARD_BYTES = 512 * 2**20
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


@dataclass(frozen=True)
class _Place:
    """Where a name's feature lies, and the file it was made from."""

    digest: str
    size: int
    time_ns: int


def cache_key(tower: str, folder: ImageFolder) -> str:
    """The key of features of the tower with this identity (a hash) on images prepared so."""
    return sha256(f"{tower}\n{folder.recipe.key}".encode()).hexdigest()


class FeatureCache:
    """Pictures with features, by the name in the record; `fill` adds what is missing."""

    def __init__(self, root: Path, key: str, images: ImageFolder) -> None:
        self.folder, self.key, self.images = root / key[:16], key, images
        self._places: dict[str, _Place] = {}
        self._rows: dict[str, tuple[Path, int]] = {}  # digest -> shard, row
        self._map = lru_cache(maxsize=OPEN_SHARDS)(_map)
        for shard in sorted(self.folder.glob("features-*.safetensors")):
            self._learn(shard)

    def __call__(self, name: str) -> Picture:
        """The cached feature (P, Dv) of an image. Raises DataError if it is not there."""
        place = self._known(name)
        if place is None:
            raise DataError(
                f"{self.images.path / name} has no features in the cache (it is new, changed or "
                "broken); fill the cache again"
            )
        shard, row = self._rows[place.digest]
        return Picture(place.digest, features=np.array(self._map(shard)[row]))

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
        announce: Callable[[Plan], None] = lambda plan: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Problem]:
        """Compute and store what is missing; images that cannot be read come back as problems.

        `announce` is told the size before anything is written. Raises DataError if the disk is too
        small. May be called again after a kill: finished shards count.
        """
        wanted = self.missing(names)
        problems: list[Problem] = []
        shard = _Shard()
        announced = False
        done = 0
        for group in _groups(wanted, batch_size):
            read = self._read(group, shard, problems)
            if read:
                features = compute(np.stack([square for _, square in read]))
                if not announced:
                    self._announce(features, len(wanted) - done, announce)
                    announced = True
                shard.add([digest for digest, _ in read], features)
            done += len(group)
            progress(done, len(wanted))
            if shard.bytes >= SHARD_BYTES:
                self._write(shard)
                shard = _Shard()
        if shard.places:
            self._write(shard)
        return problems

    def _known(self, name: str) -> _Place | None:
        place = self._places.get(name)
        if place is None:
            return None
        try:
            stat = (self.images.path / name).stat()
        except OSError:
            return None
        return place if (stat.st_size, stat.st_mtime_ns) == (place.size, place.time_ns) else None

    def _read(
        self, names: Sequence[str], shard: "_Shard", problems: list[Problem]
    ) -> list[tuple[str, NDArray[np.uint8]]]:
        """(digest, square) of the images that are not cached under another name."""
        fresh: dict[str, NDArray[np.uint8]] = {}
        for name in names:
            try:
                picture = self.images(name)
            except ImageError as error:
                problems.append(Problem(name, str(error), name))
                continue
            stat = (self.images.path / name).stat()
            shard.places[name] = _Place(picture.digest, stat.st_size, stat.st_mtime_ns)
            if picture.digest not in self._rows and picture.digest not in shard.digests:
                assert picture.square is not None
                fresh[picture.digest] = picture.square
        return list(fresh.items())

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
        number = 1 + max((int(p.stem[9:]) for p in self.folder.glob("features-*")), default=-1)
        final = self.folder / f"features-{number:05d}.safetensors"
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
        for name, (digest, size, time_ns) in json.loads(told["names"]).items():
            self._places[name] = _Place(digest, size, time_ns)


class _Shard:
    """Features gathered for one file."""

    def __init__(self) -> None:
        self.places: dict[str, _Place] = {}
        self.digests: dict[str, None] = {}
        self.features: list[NDArray[Any]] = []
        self.bytes = 0

    def add(self, digests: Sequence[str], features: NDArray[Any]) -> None:
        if features.ndim != 3 or len(features) != len(digests):
            raise ValueError(f"features are {features.shape} for {len(digests)} images")
        self.digests.update(dict.fromkeys(digests))
        self.features.append(features)
        self.bytes += features.nbytes

    def save(self, path: Path, key: str) -> None:
        whole = np.concatenate(self.features) if self.features else np.zeros((0, 0, 0), np.float32)
        places = {name: (p.digest, p.size, p.time_ns) for name, p in self.places.items()}
        bits = whole.view(np.uint16) if whole.dtype == ml_dtypes.bfloat16 else whole
        told = {
            "key": key,
            "dtype": whole.dtype.name,
            "digests": json.dumps(list(self.digests)),
            "names": json.dumps(places),
        }
        save_file({"features": np.ascontiguousarray(bits)}, path, metadata=told)


def _groups(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


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
