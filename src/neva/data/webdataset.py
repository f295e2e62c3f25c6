"""Records out of WebDataset shards: files of one key (`a/0001.jpg`, `a/0001.json`) are one sample.

Three forms are in use, and all are read: a JSON record as LLaVA's, a bare list of its turns
(Megatron-Energon), and a caption in `.txt` or in the JSON's `caption` (img2dataset). The images of
a sample are the image files of its key, whatever name its JSON has for them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from neva.data.archives import Archive
from neva.data.turns import Unusable

TEXTS = (".json", ".txt")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


@dataclass
class _Sample:
    images: list[str] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)


def shard_samples(archives: Sequence[Archive]) -> Iterator[tuple[str, Any]]:
    """(key, raw record as LLaVA's) of every sample with a text, in the shards' order.

    What cannot be a record comes as it is, or as `Unusable`, to become a flaw.
    """
    for archive in archives:
        samples: dict[str, _Sample] = {}
        for name in archive.index.names:
            key, suffix = split(name)
            if suffix.endswith(IMAGES):
                samples.setdefault(key, _Sample()).images.append(name)
        for name, data in archive.texts(TEXTS):
            key, suffix = split(name)
            samples.setdefault(key, _Sample()).texts[suffix] = data
        for key, sample in samples.items():
            if sample.texts:
                yield key, _record(sample)


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
        return {**images, "conversations": raw}
    if isinstance(raw, Mapping) and "conversations" in raw:
        return {**raw, **images}
    caption = _decode(text) if text is not None else None
    if caption is None and isinstance(raw, Mapping):
        caption = raw.get("caption")
    if not isinstance(caption, str):
        return raw
    question = "\n".join(["<image>"] * len(sample.images))
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": caption}]
    return {**images, "conversations": turns}


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
