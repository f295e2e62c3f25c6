"""Records out of WebDataset shards: files of one key (`a/0001.jpg`, `a/0001.json`) are one sample.

Three forms are in use, and all are read: a JSON record as LLaVA's, a bare list of its turns
(Megatron-Energon), and a caption in `.txt` or in the JSON's `caption` (img2dataset). The images of
a sample are the image files of its key, whatever name its JSON has for them. Shards may have the
same keys: a name that several of them have begins with the shard's (`s-001.tar/0001.jpg`).
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from neva.data.archives import Archive, labels
from neva.data.turns import PLACE, Unusable

TEXTS = (".json", ".txt")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


@dataclass
class _Sample:
    images: list[str] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    """Files that are neither."""


def shard_samples(archives: Sequence[Archive]) -> Iterator[tuple[str, Any]]:
    """(key, raw record as LLaVA's) of every sample with a text or an image, in the shards' order.

    What cannot be a record comes as it is, or as `Unusable`, to become a flaw.
    """
    homes = Counter(name for archive in archives for name in archive.index.names)
    for archive, label in zip(archives, labels(archives), strict=True):
        own = {name for name in archive.index.names if homes[name] > 1}
        samples = _samples(archive)
        records = {key: _record(sample) for key, sample in samples.items() if sample.texts}
        told = {name for raw in records.values() for name in _names(raw)}
        for key, sample in samples.items():
            if sample.texts:
                yield key, _labelled(records[key], label, own)
            elif not told.issuperset(sample.images):
                yield key, Unusable(f"{sample.images[0]} has no .txt or .json beside it; add one")


def _samples(archive: Archive) -> dict[str, _Sample]:
    """The samples of a shard by their keys: those with an image or a text."""
    found: dict[str, _Sample] = {}
    for name in itertools.filterfalse(_hidden, archive.index.names):
        key, suffix = split(name)
        sample = found.setdefault(key, _Sample())
        if suffix.endswith(IMAGES):
            sample.images.append(name)
        elif not suffix.endswith(TEXTS):
            sample.others.append(name)
    for name, data in archive.texts(TEXTS):
        key, suffix = split(name)
        if key in found and not _hidden(name):
            found[key].texts[suffix] = data
    return {key: sample for key, sample in found.items() if sample.images or sample.texts}


def _hidden(name: str) -> bool:
    """A name without a key, such as the `._0001.jpg` that macOS writes beside `0001.jpg`."""
    return PurePosixPath(name).name.startswith(".")


def _names(raw: Any) -> list[str]:
    """The images that a record names."""
    told = raw.get("image") if isinstance(raw, Mapping) else None
    return [name for name in (told if isinstance(told, list) else [told]) if isinstance(name, str)]


def _labelled(raw: Any, label: str, own: set[str]) -> Any:
    """The record; those of its images that other shards have too begin with its shard's label."""
    names = _names(raw)
    if own.isdisjoint(names):
        return raw
    return {**raw, "image": [f"{label}/{name}" if name in own else name for name in names]}


def shard_sha256(archives: Sequence[Archive]) -> str:
    """A hash of what the shards say: the names of all files, and the bytes of their texts."""
    digest = hashlib.sha256()
    for archive in archives:
        for name in archive.index.names:
            digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        for _, data in archive.texts(TEXTS):
            digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def split(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's own name."""
    path = PurePosixPath(name)
    stem, dot, rest = path.name.partition(".")
    return str(path.parent / stem), (dot + rest).lower()


def _record(sample: _Sample) -> Any:
    try:
        return _raw(sample)
    except Unusable as unusable:
        return unusable


def _raw(sample: _Sample) -> Any:
    text = next((t for s, t in sample.texts.items() if s.endswith(".txt")), None)
    told = next((t for s, t in sample.texts.items() if s.endswith(".json")), None)
    raw = None if told is None else _parse(told)
    images = {"image": sample.images} if sample.images else {}
    if isinstance(raw, list):
        raw = {"conversations": raw}
    if isinstance(raw, Mapping) and "conversations" in raw:
        if PLACE in json.dumps(raw["conversations"]) and not raw.get("image"):
            _check_pictured(sample)
        return {**raw, **images}
    caption = _decode(text) if text is not None else None
    if caption is None and isinstance(raw, Mapping):
        caption = raw.get("caption")
    if not isinstance(caption, str):
        return raw
    _check_pictured(sample)
    question = "\n".join(["<image>"] * len(sample.images))
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": caption}]
    return {**images, "conversations": turns}


def _check_pictured(sample: _Sample) -> None:
    """Refuse a text about a picture that is in another form than those that are read."""
    if sample.others and not sample.images:
        forms = ", ".join(IMAGES)
        raise Unusable(
            f"{sample.others[0]} is none of {forms}; convert it and write the shard again"
        )


def _parse(data: bytes) -> Any:
    try:
        return json.loads(_decode(data))
    except (json.JSONDecodeError, RecursionError):
        raise Unusable("its .json is broken; write the shard again") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("its text is not UTF-8; write the shard again") from None
