"""Files -> records: LLaVA's JSON list, JSON lines (LLaVA's, or NeVA's with `<img>` tags), shards.

Reading is strict about what a record means and kind about how it is written. What cannot be read is
a `Flaw` with the record's id and a sentence, so that `neva check` can list all of them at once.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from neva.data.archives import Archive
from neva.data.stores import open_archives
from neva.data.turns import Unusable, conversation_of
from neva.data.webdataset import shard_samples, shard_sha256
from neva.errors import DataError
from neva.prompts import Conversation


@dataclass(frozen=True)
class Record:
    """One training example. `images[slot.index]` is the name of the image of `slot`."""

    id: str
    images: tuple[str, ...]
    """Names in the place of the images."""
    conversation: Conversation
    line: int
    """Where it stands, from 1: line of a file of lines, else number in the list or shards."""
    dataset: int = 0
    """Of which data set of the run it is."""


@dataclass(frozen=True)
class Flaw:
    """A record that cannot be used: whose, and why, with the remedy."""

    id: str
    line: int
    sentence: str
    dataset: int = 0


def read_records(path: Path) -> list[Record]:
    """All records of a training file. Raises DataError at the first that cannot be used."""
    records: list[Record] = []
    for entry in scan_records(path):
        if isinstance(entry, Flaw):
            raise DataError(f"{path}, record {entry.id!r} (number {entry.line}): {entry.sentence}")
        records.append(entry)
    return records


def scan_records(path: Path, dataset: int = 0) -> list[Record | Flaw]:
    """All records of a training file or of WebDataset shards, unusable ones as flaws.

    `dataset` is noted in every entry. Raises DataError if the file itself is unusable: missing,
    empty, not UTF-8, broken JSON.
    """
    opened = open_archives(str(path))
    entries = _of_shards(opened[0], dataset) if opened else _of_text(path, dataset)
    if not entries:
        raise DataError(f"{path} holds no records; check that it is the training file")
    return entries


def data_sha256(path: Path) -> str:
    """The identity of a training file: of its bytes; of shards, of their texts and names."""
    opened = open_archives(str(path))
    if opened:
        return shard_sha256(opened[0])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_text(path: Path, dataset: int) -> list[Record | Flaw]:
    text = _text(path)
    lines = _is_lines(text, path)
    return [
        _entry(raw, _id(raw) or f"#{line}", line, dataset, tags=lines)
        for line, raw in _objects(text, path, lines)
    ]


def _of_shards(archives: Sequence[Archive], dataset: int) -> list[Record | Flaw]:
    return [
        _entry(raw, _id(raw) or key, number, dataset, tags=False)
        for number, (key, raw) in enumerate(shard_samples(archives), start=1)
    ]


def _entry(raw: Any, id: str, line: int, dataset: int, tags: bool) -> Record | Flaw:
    try:
        if isinstance(raw, Unusable):
            raise raw
        images, conversation = conversation_of(raw, tags)
        return Record(id, tuple(map(_name, images)), conversation, line, dataset)
    except Unusable as unusable:
        return Flaw(id, line, str(unusable), dataset)


def _objects(text: str, path: Path, lines: bool) -> Iterator[tuple[int, Any]]:
    """(line or number, parsed record) of a file's text."""
    if not lines:
        whole = _parse(text, path, 1)
        yield from enumerate(whole, start=1)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _parse(line, path, number)


def _parse(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {line + error.lineno - 1}, column {error.colno}: broken JSON "
            f"({error.msg.lower()}); copy or export the file again"
        ) from None
    except RecursionError:
        raise DataError(f"{path}: brackets are nested too deep; export the file again") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the training file with --data") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    except OSError:
        raise DataError(f"{path} cannot be read; it must be a file that you may read") from None


def _is_lines(text: str, path: Path) -> bool:
    """Whether the file is JSON lines: told by its first character, not by its name."""
    start = text[:1000].lstrip()[:1]
    if start not in ("[", "{"):
        raise DataError(
            f"{path} is {'not JSON' if start else 'empty'}; a training file is a JSON list "
            "of records or one JSON record a line"
        )
    return start == "{"


def _id(raw: Any) -> str:
    """The record's own id, or nothing."""
    given = raw.get("id") if isinstance(raw, Mapping) else None
    return str(given) if isinstance(given, str | int) else ""


def _name(name: str) -> str:
    """A name that stays inside the place of the images."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise Unusable(f"the image {name!r} leaves the images folder; use a name relative to it")
    return name
