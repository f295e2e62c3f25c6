"""Cached features are the live ones, survive a kill, and are never another tower's."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from made_pictures import NAMES
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from neva.data import BatchStream, Encoding, PreparedImages, Record
from neva.data import features as feature_room
from neva.data.features import FeatureCache, Plan, cache_key
from neva.data.stores import Folder
from neva.errors import DataError
from neva.prompts import Conversation, ImageSlot, assistant, user

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


class Tower:
    """Any deterministic function of the squares; counts what it is asked for."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype, self.images = dtype, 0

    def __call__(self, squares: NDArray[np.uint8]) -> NDArray[Any]:
        self.images += len(squares)
        weights = np.random.default_rng(0).normal(size=(16 * 3, 5)) / 255
        return (squares.reshape(len(squares), 16, 48) @ weights).astype(self.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cached_is_live(dtype: Any, tmp_path: Path, folder: PreparedImages) -> None:
    cache = FeatureCache(tmp_path, "k" * 64, folder)
    plans: list[Plan] = []
    assert cache.fill(NAMES, Tower(dtype), batch_size=4, announce=plans.append) == []
    [plan] = plans
    assert plan.images == len(NAMES)
    assert plan.bytes == len(NAMES) * 16 * 5 * np.dtype(dtype).itemsize
    again = FeatureCache(tmp_path, "k" * 64, folder)
    assert len(again) == len(NAMES) and again.missing(NAMES) == []
    for name in NAMES:
        square, picture = folder(name).square, again(name)
        assert square is not None and picture.features is not None
        assert picture.features.dtype == dtype
        assert np.array_equal(picture.features, Tower(dtype)(square[None])[0])
        assert picture.digest == folder(name).digest


def test_a_killed_fill_goes_on(
    tmp_path: Path, folder: PreparedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_room, "SHARD_BYTES", 1)  # a shard after every group
    tower = Tower()

    def dies(squares: NDArray[np.uint8]) -> NDArray[Any]:
        if tower.images >= 4:
            raise KeyboardInterrupt
        return tower(squares)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path, "k", folder).fill(NAMES, dies, batch_size=2)
    (tmp_path / "k" / "features-00002.writing").write_bytes(b"half a shard")
    cache, rest = FeatureCache(tmp_path, "k", folder), Tower()
    assert len(cache) == 4
    cache.fill(NAMES, rest, batch_size=2)
    assert rest.images == len(NAMES) - 4 and cache.missing(NAMES) == []


def test_same_pixels_are_computed_once(
    tmp_path: Path, folder: PreparedImages, pictures: Path
) -> None:
    shutil.copy(pictures / NAMES[0], pictures / "copy.png")
    cache, tower = FeatureCache(tmp_path, "k", folder), Tower()
    cache.fill([NAMES[0], "copy.png"], tower)
    assert tower.images == 1 and cache("copy.png").digest == cache(NAMES[0]).digest
    (pictures / "copy.png").unlink()


def test_changed_missing_and_broken_images(
    tmp_path: Path, folder: PreparedImages, pictures: Path
) -> None:
    cache = FeatureCache(tmp_path, "k", folder)
    problems = cache.fill([NAMES[0], "corrupt.png", "none.png"], Tower())
    assert [problem.file for problem in problems] == ["corrupt.png", "none.png"]
    with pytest.raises(DataError, match=r"corrupt\.png has no features"):
        cache("corrupt.png")
    before = (pictures / NAMES[0]).stat()
    os.utime(pictures / NAMES[0], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match="changed"):
        cache(NAMES[0])
    os.utime(pictures / NAMES[0], ns=(before.st_atime_ns, before.st_mtime_ns))


def test_another_tower_is_refused(tmp_path: Path, folder: PreparedImages) -> None:
    key = cache_key("tower", folder)
    assert key != cache_key("another", folder)
    FeatureCache(tmp_path, key, folder).fill(NAMES, Tower())
    assert FeatureCache(tmp_path, cache_key("another", folder), folder).missing(NAMES) == NAMES
    with pytest.raises(DataError, match="another vision tower"):
        FeatureCache(tmp_path, key[:16] + "x" * 48, folder)


def test_a_small_disk_is_refused_before_writing(
    tmp_path: Path, folder: PreparedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(feature_room.shutil, "disk_usage", lambda path: usage)
    cache = FeatureCache(tmp_path, "k", folder)
    with pytest.raises(DataError, match="make room or train without the cache"):
        cache.fill(NAMES, Tower())
    assert list(cache.folder.iterdir()) == []


def test_a_stream_of_features(tmp_path: Path, folder: PreparedImages, encoding: Encoding) -> None:
    told = Conversation((user(ImageSlot(0), "\nWhat?"), assistant("A")))
    records = [Record(name, (name,), told, 1) for name in NAMES]
    cache = FeatureCache(tmp_path, "k", folder)
    cache.fill(NAMES, Tower())
    with BatchStream(records, cache, encoding, len(NAMES), epochs=1) as batches:
        [batch] = batches
    [row] = batch.rows
    assert row.images is None and row.features is not None
    expected = np.stack([cache(name).features for name in row.image_names])  # type: ignore[misc]
    assert np.array_equal(row.features, expected) and row.features.shape == (6, 16, 5)


def test_another_folder_has_its_own_features(
    tmp_path: Path, folder: PreparedImages, pictures: Path
) -> None:
    """Other pictures by the same names, of the same sizes and times."""
    other = tmp_path / "other"
    other.mkdir()
    first, second = NAMES[:2]
    size = max((pictures / name).stat().st_size for name in (first, second))
    for place, sources in ((tmp_path / "one", (first,)), (other, (second,))):
        place.mkdir(exist_ok=True)
        for source in sources:
            data = (pictures / source).read_bytes()
            (place / "x.png").write_bytes(data + b"\0" * (size - len(data)))
            os.utime(place / "x.png", (1, 1))
    made = [
        FeatureCache(tmp_path, "k", PreparedImages(Folder(place), folder.recipe))
        for place in (tmp_path / "one", other)
    ]
    made[0].fill(["x.png"], Tower())
    made[1].look_again()
    assert made[1].missing(["x.png"]) == ["x.png"]
    made[1].fill(["x.png"], Tower())
    digests = [cache("x.png").digest for cache in made]
    assert digests == [cache.images("x.png").digest for cache in made]
    assert digests[0] != digests[1]
    linked = tmp_path / "link"
    linked.symlink_to(other)
    same = FeatureCache(tmp_path, "k", PreparedImages(Folder(linked), folder.recipe))
    assert same.missing(["x.png"]) == [] and same("x.png").digest == digests[1]


def test_an_older_cache_keeps_its_features_and_not_its_names(
    tmp_path: Path, folder: PreparedImages
) -> None:
    cache = FeatureCache(tmp_path, "k", folder)
    cache.fill(NAMES, Tower())
    [shard] = cache.folder.iterdir()
    with safe_open(shard, "numpy") as file:
        told, rows = file.metadata(), file.get_tensor("features")
    places = json.loads(told.pop("places"))
    told["names"] = json.dumps(
        {name: (d, size, time) for name, (d, _, size, time) in places.items()}
    )
    save_file({"features": rows}, shard, metadata=told)
    old, tower = FeatureCache(tmp_path, "k", folder), Tower()
    assert len(old) == len(NAMES) and old.missing(NAMES) == NAMES
    old.fill(NAMES, tower)
    assert tower.images == 0 and old.missing(NAMES) == []
