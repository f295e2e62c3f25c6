"""Where every file of a tar or zip archive lies, found once and remembered.

With the index a picture is read out of an archive of a hundred gigabytes by one seek, from any
thread, and nothing is unpacked. An index is kept in the cache folder under the archive's path, size
and time, so an archive that has changed is indexed anew.
"""

import hashlib
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from neva.cachedir import cache_dir
from neva.errors import DataError

VERSION = 1  # of the index's form; another one is made anew
STORED, DEFLATED = 0, 8  # zip's numbers of its methods; a tar's files are all stored
ENCRYPTED = 0x1  # zip's flag bit
KEEP_MEMBERS = 4096  # of tarfile's own list, which would grow with the archive

Kind = Literal["tar", "zip"]


@dataclass(frozen=True)
class Member:
    """A file in an archive: where its bytes are and how many."""

    offset: int
    """Of the data in a tar, of the local header in a zip."""
    stored: int
    """Bytes in the archive."""
    size: int
    """Bytes of the file."""
    method: int
    check: int
    """CRC-32 in a zip; 0 in a tar, which has none."""


@dataclass(frozen=True, eq=False)
class Index:
    """The names in an archive, in its order, and where each file is. A later double wins."""

    names: tuple[str, ...]
    table: NDArray[np.int64]
    """(names, 5) the fields of `Member`."""

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def find(self, name: str) -> Member | None:
        """The file of that name, or None."""
        row = self._rows.get(name)
        return None if row is None else Member(*map(int, self.table[row]))


def kind_of(path: Path) -> Kind | None:
    """Whether a file is a tar or zip archive, told by its bytes; None for anything else.

    Raises DataError for a compressed tar, in which nothing can be found without reading all.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if len(head) == 512 and (head[257:262] == b"ustar" or _old_tar(head)):
        return "tar"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")):
        raise DataError(
            f"{path} is compressed as a whole, so no file in it can be found without unpacking all "
            "before it; unpack it to a plain .tar (pictures are compressed already)"
        )
    return None


def index_of(path: Path, kind: Kind) -> Index:
    """The index of an archive: from the cache, or made now and kept there. Raises DataError."""
    file = _cache_file(path)
    known = _load(file)
    if known is not None:
        return known
    try:
        found = dict(_scan_tar(path) if kind == "tar" else _scan_zip(path))
    except (tarfile.TarError, zipfile.BadZipFile, struct.error, EOFError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a {kind} archive ({error}); copy or download it again"
        ) from None
    table = np.array(
        [(m.offset, m.stored, m.size, m.method, m.check) for m in found.values()], np.int64
    )
    index = Index(tuple(found), table.reshape(len(found), 5))
    _keep(index, file)
    return index


def clean(name: str) -> str | None:
    """A member's name as records write it; None for one that would leave the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return str(path)


def _scan_tar(path: Path) -> Iterator[tuple[str, Member]]:
    seen: dict[str, Member] = {}  # for hard links, which point back to a name
    with tarfile.open(path, "r:") as archive:
        end, kept = path.stat().st_size, vars(archive)["members"]
        for info in archive:
            if len(kept) > KEEP_MEMBERS:
                kept.clear()
            name = clean(info.name)
            member = None
            if info.isreg() and not info.issparse():
                member = Member(info.offset_data, info.size, info.size, STORED, 0)
                if info.offset_data + info.size > end:
                    raise DataError(
                        f"{path} is cut off in {info.name!r}; copy or download it again"
                    )
            elif info.islnk():
                member = seen.get(clean(info.linkname) or "")
            if name is not None and member is not None:
                seen[name] = member
                yield name, member


def _scan_zip(path: Path) -> Iterator[tuple[str, Member]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = clean(info.filename)
            usable = info.compress_type in (STORED, DEFLATED) and not info.flag_bits & ENCRYPTED
            link = stat.S_ISLNK(info.external_attr >> 16)
            if name is None or info.is_dir() or link or not usable:
                continue
            yield (
                name,
                Member(
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                    info.compress_type,
                    info.CRC,
                ),
            )


def _old_tar(head: bytes) -> bool:
    """A header of tar before POSIX, which has no mark but a sum of its bytes."""
    try:
        told = int(head[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return told == sum(head[:148]) + 8 * ord(" ") + sum(head[156:])


def _cache_file(path: Path) -> Path:
    told = path.stat()
    identity = f"{VERSION}\0{path.resolve()}\0{told.st_size}\0{told.st_mtime_ns}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return cache_dir() / "archives" / f"{name}.safetensors"


def _load(file: Path) -> Index | None:
    """The index in that file; None where there is none, or none that is whole."""
    try:
        held = load_file(file)
        text = held["names"].tobytes().decode("utf-8", "surrogateescape")
        names = tuple(text.split("\0")) if text else ()
        table = held["table"]
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    return Index(names, table) if table.shape == (len(names), 5) else None


def _keep(index: Index, file: Path) -> None:
    """Remember an index; where nothing can be written it is made again the next time."""
    aside = file.with_suffix(f".{os.getpid()}.writing")
    text = "\0".join(index.names).encode("utf-8", "surrogateescape")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"names": np.frombuffer(text, np.uint8), "table": index.table}, aside)
        aside.replace(file)
    except OSError:
        aside.unlink(missing_ok=True)
