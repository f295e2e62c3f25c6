"""Uploaded pictures of OpenAI's files API, each key's own, in the same database as the responses.

A file is let in only if the picture door can read it. It is deleted when its owner says so, or when
it expires.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from neva.images import read_image
from neva.server.database import Database, patiently
from neva.server.errors import ApiError
from neva.server.settings import Limits

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS file (id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL,"
    " purpose TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL, size INTEGER NOT NULL,"
    " data BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS file_owner ON file (owner, created)",
    "CREATE INDEX IF NOT EXISTS file_expires ON file (expires)",
)
COLUMNS = "id, name, purpose, created, expires, size"


@dataclass(frozen=True)
class StoredFile:
    """One file without its bytes; times are seconds since the epoch."""

    id: str
    name: str
    purpose: str
    created: float
    expires: float
    size: int

    def as_dict(self) -> dict[str, Any]:
        """As OpenAI shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": int(self.created),
            "expires_at": int(self.expires),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """The files of one server. All calls block: use them from reading threads."""

    def __init__(
        self,
        database: Database,
        limits: Limits,
        keep_days: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._limits = limits
        self._keep = keep_days * 24 * 3600
        self._clock = clock
        patiently(self._prepare)

    def _prepare(self) -> None:
        for statement in SCHEMA:
            self._database.do(statement)

    def add(
        self, owner: str, name: str, purpose: str, data: bytes, seconds: float | None = None
    ) -> StoredFile:
        """Keep a picture for `seconds`.

        ImageError for bytes that are none, ApiError 413 or 429 beyond the limits, StoreFullError
        when there is no room.
        """
        if len(data) > self._limits.file_bytes:
            raise ApiError(413, f"a file may have {self._limits.file_bytes:,} bytes", "file")
        read_image(data)
        now = self._clock()
        sql = "SELECT count(*) FROM file WHERE owner = ? AND expires >= ?"
        held = self._database.do(sql, owner, now)[0][0]
        if held >= self._limits.files:
            raise ApiError(429, f"this key keeps {held} files already; delete some first")
        keep = self._keep if seconds is None else min(self._keep, seconds)
        made = StoredFile(f"file-{uuid.uuid4().hex}", name, purpose, now, now + keep, len(data))
        self._database.do(
            "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            *(made.id, owner, name, purpose, made.created, made.expires, made.size, data),
        )
        return made

    def find(self, owner: str, name: str) -> StoredFile:
        """The owner's file; ApiError 404 if there is none, also if it is another's."""
        rows = self._database.do(
            f"SELECT {COLUMNS} FROM file WHERE id = ? AND owner = ? AND expires >= ?",
            *(name, owner, self._clock()),
        )
        if not rows:
            raise _missing(name)
        return StoredFile(*rows[0])

    def data(self, owner: str, name: str) -> bytes:
        """The bytes of the owner's file; ApiError 404."""
        rows = self._database.do(
            "SELECT data FROM file WHERE id = ? AND owner = ? AND expires >= ?",
            *(name, owner, self._clock()),
        )
        if not rows:
            raise _missing(name)
        return bytes(rows[0][0])

    def of(self, owner: str, purpose: str | None = None) -> list[StoredFile]:
        """The owner's files, newest first."""
        rows = self._database.do(
            f"SELECT {COLUMNS} FROM file WHERE owner = ? AND expires >= ?"
            " ORDER BY created DESC, id DESC",
            *(owner, self._clock()),
        )
        return [file for row in rows if (file := StoredFile(*row)).purpose == (purpose or row[2])]

    def owners(self) -> dict[str, int]:
        """Who keeps how many files, for the operator."""
        sql = "SELECT owner, count(*) FROM file WHERE expires >= ? GROUP BY owner"
        return {str(owner): int(count) for owner, count in self._database.do(sql, self._clock())}

    def delete(self, owner: str, name: str) -> None:
        """Forget a file; ApiError 404."""
        if not self._forgotten("id = ? AND owner = ?", name, owner):
            raise _missing(name)

    def delete_all(self, owner: str) -> int:
        """Forget an owner's files; how many there were."""
        return self._forgotten("owner = ?", owner)

    def expire(self) -> int:
        """Forget what has expired; how many files that was."""
        return self._forgotten("expires < ?", self._clock())

    def _forgotten(self, which: str, *values: object) -> int:
        gone = self._database.do(f"DELETE FROM file WHERE {which} RETURNING id", *values)
        self._database.forget()
        return len(gone)


def _missing(name: str) -> ApiError:
    return ApiError(404, f"file {name[:80]!r} is not there for this key; it may have expired")
