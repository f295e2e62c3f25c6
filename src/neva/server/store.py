"""Stored responses, so that a conversation goes on by an id and survives restarts.

A response belongs to the key that made it; another key cannot tell that it exists. It is deleted
when its owner says so or after `keep_days`. All calls block: use them from reading threads.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.server.database import Database, StoreError, open_database

__all__ = ["Holding", "Store", "StoreError", "Stored"]

LONGEST_CHAIN = 1024
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS response (id TEXT PRIMARY KEY, owner TEXT NOT NULL, parent TEXT,"
    " created REAL NOT NULL, expires REAL NOT NULL, said TEXT NOT NULL, answer TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS response_owner ON response (owner, created)",
    "CREATE INDEX IF NOT EXISTS response_expires ON response (expires)",
    "CREATE INDEX IF NOT EXISTS response_parent ON response (parent)",
)


@dataclass(frozen=True)
class Holding:
    """What one owner keeps; `latest` and `expires`: seconds since the epoch.

    `threads` counts conversations: responses that no other one was the beginning of.
    """

    owner: str
    responses: int
    threads: int
    latest: float
    expires: float


@dataclass(frozen=True)
class Stored:
    """One response: what was said to it (its own turn only) and the response object itself."""

    id: str
    parent: str | None
    said: list[dict[str, Any]]
    answer: dict[str, Any]


class Store:
    """The stored responses of one server, in a database, a file of its own, or (None) memory."""

    def __init__(
        self,
        where: Database | Path | None,
        keep_days: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keep = keep_days * 24 * 3600
        self._clock = clock
        self._database = open_database(where) if where is None or isinstance(where, Path) else where
        try:
            for statement in SCHEMA:
                self._database.do(statement)
        except StoreError:
            raise StoreError(
                f"cannot use the store of responses, {self._database.place}: it is damaged, full "
                "or no database; move it away or mend it"
            ) from None
        self._do = self._database.do

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def owners(self) -> list[Holding]:
        """Who keeps what, for the operator."""
        sql = (
            "SELECT owner, count(*), sum(CASE WHEN EXISTS (SELECT 1 FROM response AS later WHERE"
            " later.parent = response.id AND later.owner = response.owner) THEN 0 ELSE 1 END),"
            " max(created), min(expires) FROM response WHERE expires >= ?"
            " GROUP BY owner ORDER BY owner"
        )
        return [Holding(*row) for row in self._do(sql, self._clock())]

    def expire(self) -> int:
        """Forget what has expired; how many responses that was."""
        return self._forgotten("expires < ?", self._clock())

    def save(self, owner: str, stored: Stored) -> None:
        """Keep a response."""
        now = self._clock()
        self._do(
            "INSERT INTO response VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            *(stored.id, owner, stored.parent, now, now + self._keep),
            *(json.dumps(stored.said), json.dumps(stored.answer)),
        )

    def find(self, owner: str, name: str) -> Stored | None:
        """The owner's response, or None."""
        rows = self._do(
            "SELECT id, parent, said, answer FROM response"
            " WHERE id = ? AND owner = ? AND expires >= ?",
            *(name, owner, self._clock()),
        )
        return _stored(rows[0]) if rows else None

    def chain(self, owner: str, name: str) -> list[Stored] | None:
        """The conversation that ends with `name`, oldest first; None if a part is gone."""
        found: list[Stored] = []
        next_name: str | None = name
        while next_name is not None:
            stored = self.find(owner, next_name)
            if stored is None or len(found) == LONGEST_CHAIN:
                return None
            found.append(stored)
            next_name = stored.parent
        return found[::-1]

    def delete(self, owner: str, name: str) -> bool:
        """Forget a response; whether there was one."""
        return self._forgotten("id = ? AND owner = ?", name, owner) > 0

    def delete_all(self, owner: str) -> int:
        """Forget everything of an owner; how many responses that was."""
        return self._forgotten("owner = ?", owner)

    def _forgotten(self, which: str, *values: object) -> int:
        gone = self._do(f"DELETE FROM response WHERE {which} RETURNING id", *values)
        self._database.forget()
        return len(gone)

    def export(self, owner: str) -> Iterator[Stored]:
        """Everything of an owner, oldest first, a page at a time."""
        after: tuple[float, str] = (0.0, "")
        while True:
            rows = self._do(
                "SELECT id, parent, said, answer, created FROM response"
                " WHERE owner = ? AND expires >= ? AND (created, id) > (?, ?)"
                " ORDER BY created, id LIMIT 16",
                *(owner, self._clock(), *after),
            )
            if not rows:
                return
            for row in rows:
                yield _stored(row[:4])
            after = (rows[-1][4], rows[-1][0])


def _stored(row: tuple[Any, ...]) -> Stored:
    return Stored(row[0], row[1], json.loads(row[2]), json.loads(row[3]))
