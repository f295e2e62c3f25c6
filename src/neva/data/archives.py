"""Files read out of tar and zip archives without unpacking, by name, from any thread."""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from neva.data.archive_index import DEFLATED, Index, Kind, Member, index_of, kind_of
from neva.errors import DataError

LOCAL_HEADER = 30  # bytes of a zip's local header, before the name and the extra field


@dataclass(frozen=True)
class Archive:
    """A tar or zip archive; make one with `Archive.open`.

    The file is opened for every read, which costs microseconds beside decoding a picture, and so
    any number of shards and threads is fine.
    """

    path: Path
    kind: Kind

    @classmethod
    def open(cls, path: Path) -> "Archive | None":
        """The archive at `path`, or None if it is not one. Raises DataError if it is compressed."""
        kind = kind_of(path)
        return None if kind is None else cls(path, kind)

    @cached_property
    def index(self) -> Index:
        """What is in it and where. Raises DataError if the archive is broken."""
        return index_of(self.path, self.kind)

    def read(self, member: Member) -> bytes:
        """The bytes of a file. Raises DataError if the archive is damaged there."""
        with self.path.open("rb") as file:
            return self._read(file, member)

    def texts(self, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of all files with those suffixes, in whatever case, in their order."""
        with self.path.open("rb") as file:
            for name in self.index.names:
                member = self.index.find(name)
                if name.lower().endswith(suffixes) and member is not None:
                    yield name, self._read(file, member)

    def _read(self, file: BinaryIO, member: Member) -> bytes:
        file.seek(member.offset)
        if self.kind == "zip":
            header = file.read(LOCAL_HEADER)
            if len(header) < LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
                raise self._damaged()
            lengths = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:], "little")
            file.seek(sum(lengths), 1)
        data = file.read(member.stored)
        if member.method == DEFLATED:
            data = self._inflate(data, member.size)
        whole = len(data) == member.size
        if not whole or (self.kind == "zip" and zlib.crc32(data) != member.check):
            raise self._damaged()
        return data

    def _inflate(self, data: bytes, size: int) -> bytes:
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except zlib.error:
            raise self._damaged() from None

    def _damaged(self) -> DataError:
        return DataError(f"{self.path} is damaged; copy or download it again")


def labels(archives: Sequence[Archive]) -> tuple[str, ...]:
    """What tells archives apart in a picture's name: their paths beneath the folder of all."""
    paths = [archive.path.absolute() for archive in archives]
    folder = os.path.commonpath([path.parent for path in paths])
    return tuple(path.relative_to(folder).as_posix() for path in paths)
