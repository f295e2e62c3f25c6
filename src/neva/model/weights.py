"""Safetensors without torch: headers, lazy arrays under our disk names, sharded writing, sha256.

bfloat16 comes and goes as `ml_dtypes.bfloat16`. Never a pickle.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from neva.errors import CheckpointError
from neva.model.files import check_room
from neva.model.keys import disk_name

Array = NDArray[Any]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000  # as transformers: every tool copes with files of this size

_MOST_HEADER_BYTES = 100_000_000  # safetensors' own limit
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what JSON may do
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `name` as the file has it, bytes [start, stop) of the file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def floating(self) -> bool:
        """Whether its numbers are plain floating ones that neva reads."""
        return self.dtype in ("F64", "F32", "F16", "BF16")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, in order; CheckpointError names a missing one."""
    index = folder / INDEX
    if index.is_file():
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            names = sorted({plain_name(name) for name in places})
        except _BROKEN as error:
            raise CheckpointError(
                f"{index}: not an index of weights ({error}); copy it again."
            ) from error
        for name in names:
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder}: {name} is named in {INDEX} but is not there.")
        return tuple(folder / name for name in names)
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if any(folder.glob("*.bin")):
        remedy = "its weights are pickles, which neva never reads; convert them to safetensors."
    else:
        remedy = "the checkpoint is incomplete; copy or make it again."
    raise CheckpointError(f"{folder}: there is no {SINGLE} and no {INDEX}; {remedy}")


def plain_name(name: Any) -> str:
    """The name of a file beside the index; ValueError for a way out of its folder."""
    if not isinstance(name, str) or name != Path(name).name:
        raise ValueError(f"{name!r} is not the name of a file beside it")
    return name


def read_entries(file: Path) -> Iterator[TensorEntry]:
    """The header of one safetensors file; no weight is read. CheckpointError for a broken file."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _MOST_HEADER_BYTES:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(length))
        first, size = 8 + length, file.stat().st_size
        header.pop("__metadata__", None)
        entries = [_entry(file, name, record, first) for name, record in header.items()]
        _check_apart(entries)
    except (*_BROKEN, struct.error) as error:
        raise CheckpointError(
            f"{file}: not a safetensors file ({error}); copy it again."
        ) from error
    if any(entry.stop > size for entry in entries):
        raise CheckpointError(f"{file}: the file is cut short; copy it again.")
    yield from entries


def _entry(file: Path, name: str, record: Mapping[str, Any], first: int) -> TensorEntry:
    """One line of a header, whose data begin at `first`; ValueError where its numbers disagree."""
    shape, (start, stop) = tuple(record["shape"]), record["data_offsets"]
    numbers = (*shape, start, stop)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError(f"{name} has impossible numbers")
    kind = _DTYPES.get(record["dtype"])
    if stop < start or (kind and stop - start != math.prod(shape) * kind.itemsize):
        raise ValueError(f"{name} has another size than its shape")
    return TensorEntry(file, name, record["dtype"], shape, first + start, first + stop)


def _check_apart(entries: Iterable[TensorEntry]) -> None:
    """ValueError where two tensors lie in the same bytes, as safetensors forbids."""
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start < end:
            raise ValueError(f"{entry.name} lies over another tensor")
        end = entry.stop


def tensor_entries(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of a checkpoint by its disk name (`neva.model.keys`), headers only.

    CheckpointError where two have the same: which one is meant cannot be known.
    """
    found: dict[str, TensorEntry] = {}
    for file in weight_files(folder):
        for entry in read_entries(file):
            name = disk_name(entry.name)
            if name in found:
                first = found[name]
                raise CheckpointError(
                    f"{folder}: {name} is there twice, as {first.name} in {first.file.name} and "
                    f"as {entry.name} in {file.name}; make the checkpoint again."
                )
            found[name] = entry
    return found


class TensorFiles(Mapping[str, Array]):
    """The tensors of safetensors files by disk name, each mapped from its file when asked for."""

    def __init__(self, entries: Mapping[str, TensorEntry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> Array:
        """The tensor, read-only; its pages are read from the file as they are touched."""
        entry = self.entries[name]
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise CheckpointError(
                f"{entry.file}: {entry.name} is {entry.dtype}, which neva cannot read."
            )
        if entry.start == entry.stop:
            return np.empty(entry.shape, dtype)
        size = entry.stop - entry.start
        flat = np.memmap(entry.file, np.uint8, mode="r", offset=entry.start, shape=(size,))
        return np.asarray(flat).view(dtype).reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def read_weights(folder: Path) -> TensorFiles:
    """The tensors of a checkpoint's folder, lazily, by disk name."""
    return TensorFiles(tensor_entries(folder))


def write_tensors(
    folder: Path, tensors: Mapping[str, Array], shard_bytes: int = SHARD_BYTES
) -> tuple[Path, ...]:
    """Write tensors (disk names) as one file, or as shards of at most `shard_bytes` with an index.

    The mapping may be lazy: each tensor is asked for twice, and one is in memory at a time.
    CheckpointError, before anything is written, where the disk has no room for all.
    """
    kinds = {name: _kind(tensors[name]) for name in tensors}
    total = sum(kind.bytes for kind in kinds.values())
    check_room(folder.resolve().parent, total)  # `folder` is in passing, beside the output
    shards = _split(((name, kind.bytes) for name, kind in kinds.items()), shard_bytes)
    many = len(shards) > 1
    files, places = [], {}
    for number, names in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if many else SINGLE
        _write_file(folder / name, {key: kinds[key] for key in names}, tensors)
        files.append(folder / name)
        places.update(dict.fromkeys(names, name))
    if many:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return tuple(files)


@dataclass(frozen=True)
class _Kind:
    """What the header says of a tensor."""

    dtype: str
    size: int
    shape: tuple[int, ...]
    bytes: int


def _kind(array: Array) -> _Kind:
    return _Kind(_NAMES[array.dtype], array.dtype.itemsize, array.shape, array.nbytes)


def _write_file(file: Path, kinds: Mapping[str, _Kind], tensors: Mapping[str, Array]) -> None:
    """The bytes that safetensors' own writer makes of them, without all of them in memory.

    Wide dtypes come first, so that every tensor is aligned. Written aside: the tensors may be
    mapped from the very file.
    """
    order = sorted(kinds, key=lambda name: (-kinds[name].size, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for "pt"
    end = 0
    for name in order:
        kind = kinds[name]
        header[name] = {
            "dtype": kind.dtype,
            "shape": kind.shape,
            "data_offsets": (end, end := end + kind.bytes),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    aside = file.with_name(f".writing-{file.name}")
    with aside.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            array = np.ascontiguousarray(tensors[name])
            stream.write(array.reshape(-1).view(np.uint8).data)
    aside.rename(file)


def sha256_file(file: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_weights(folder: Path) -> str:
    """Identity of the weights: sha256 of the one file, or of the list that sha256sum prints."""
    files = weight_files(folder)
    if len(files) == 1:
        return sha256_file(files[0])
    lines = "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _split(sizes: Iterable[tuple[str, int]], shard_bytes: int) -> list[list[str]]:
    """Names in order, cut into runs of at most `shard_bytes` (a bigger tensor is alone)."""
    shards: list[list[str]] = [[]]
    room = shard_bytes
    for name, size in sizes:
        if size > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards
