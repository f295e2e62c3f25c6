"""Stored responses, so that a conversation goes on by an id and survives restarts.

A response belongs to the key that made it; another key cannot tell that it exists. It is deleted
when its owner says so, after `keep_days`, or as the oldest of a key that keeps too much. All calls
block: use them from reading threads.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.server.database import (
    FULL,
    Database,
    StoreError,
    StoreFullError,
    open_database,
    patiently,
)
from neva.server.errors import ApiError
from neva.server.limits import check_messages
from neva.server.settings import Limits

__all__ = ["Holding", "Spoken", "Store", "StoreError", "Stored"]

SPARED = 0.9
"""How much of its bytes a key keeps that had too many: so making room is rare."""
TABLE = (
    "CREATE TABLE IF NOT EXISTS response (id TEXT PRIMARY KEY, owner TEXT NOT NULL, parent TEXT,"
    " created REAL NOT NULL, expires REAL NOT NULL, said TEXT NOT NULL, answer TEXT NOT NULL,"
    " size INTEGER NOT NULL DEFAULT 0, spoken TEXT)"
)
NEWER: Mapping[str, tuple[str, ...]] = {
    "size": (
        "ALTER TABLE response ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        "UPDATE response SET size = length(said) + length(answer)",
    ),
    "spoken": ("ALTER TABLE response ADD COLUMN spoken TEXT",),
}
"""What a store of an older release lacks: letters of a response, and its text alone, as JSON."""
INDEXES = (
    "CREATE INDEX IF NOT EXISTS response_owner ON response (owner, created)",
    "CREATE INDEX IF NOT EXISTS response_expires ON response (expires)",
    "CREATE INDEX IF NOT EXISTS response_parent ON response (parent)",
    "CREATE INDEX IF NOT EXISTS response_size ON response (owner, size)",
)
MAKE_ROOM = (
    "owner = ? AND id IN (SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY created DESC,"
    " id DESC) AS held FROM response WHERE owner = ?) AS newest WHERE held > ?)"
)
LINE = (
    "WITH RECURSIVE line (id, parent, size, place) AS (SELECT id, parent, size, 1 FROM response"
    " WHERE id = ? AND owner = ? AND expires >= ? UNION ALL SELECT response.id, response.parent,"
    " response.size, place + 1 FROM response JOIN line ON response.id = line.parent"
    " WHERE owner = ? AND expires >= ? AND place <= ?)"
    " SELECT id, parent, size FROM line ORDER BY place"
)
"""A conversation backwards, without what was said in it."""


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


@dataclass(frozen=True)
class Spoken:
    """What a conversation goes on from: what was said to a response, and the answer's text."""

    id: str
    said: list[dict[str, Any]]
    text: str


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
            patiently(self._prepare)
        except StoreError:
            raise StoreError(
                f"cannot use the store of responses, {self._database.place}: it is damaged, full, "
                "read-only or no database; move it away or mend it"
            ) from None
        self._do = self._database.do

    def _prepare(self) -> None:
        """Make the table, or renew an older release's. May be done any number of times."""
        self._database.do(TABLE)
        self._renew()
        for statement in INDEXES:
            self._database.do(statement)

    def _renew(self) -> None:
        """Give the table of an older release its new columns."""
        for column, statements in NEWER.items():
            try:
                self._database.do(f"SELECT {column} FROM response LIMIT 1")
            except StoreError:
                for statement in statements:
                    self._database.do(statement)

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

    def save(self, owner: str, stored: Stored, most: int = Limits.response_bytes) -> None:
        """Keep a response; the owner's oldest go where all together have more than `most` bytes.

        StoreFullError for one that is too large by itself.
        """
        now = self._clock()
        said, answer = json.dumps(stored.said), json.dumps(stored.answer)
        size, kept = len(said) + len(answer), int(most * SPARED)
        if size > kept:
            raise StoreFullError(FULL)
        self._do(
            "INSERT INTO response (id, owner, parent, created, expires, said, answer, size, spoken)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            *(stored.id, owner, stored.parent, now, now + self._keep),
            *(said, answer, size, json.dumps(text_of(stored.answer))),
        )
        with contextlib.suppress(StoreError):  # it is stored; the next one makes room
            sizes = self._do("SELECT sum(size) FROM response WHERE owner = ?", owner)
            if (sizes[0][0] or 0) > most:
                self._forgotten(MAKE_ROOM, owner, owner, kept)

    def find(self, owner: str, name: str) -> Stored | None:
        """The owner's response, or None."""
        rows = self._do(
            "SELECT id, parent, said, answer FROM response"
            " WHERE id = ? AND owner = ? AND expires >= ?",
            *(name, owner, self._clock()),
        )
        return _stored(rows[0]) if rows else None

    def chain(self, owner: str, name: str, limits: Limits = Limits()) -> list[Spoken] | None:
        """The conversation that ends with `name`, oldest first; None if a part is gone.

        ApiError 422 for one of more messages or bytes than one request may bring into memory.
        """
        now = self._clock()
        line = self._do(LINE, name, owner, now, owner, now, limits.messages // 2)
        check_messages(2 * len(line), limits)  # each has a question and an answer at least
        if not line or line[-1][1] is not None:
            return None
        if sum(size for _, _, size in line) > limits.chain_bytes:
            raise ApiError(
                422,
                f"the conversation has more than {limits.chain_bytes:,} bytes; begin a new one",
                "previous_response_id",
            )
        found: list[Spoken] = []
        count = 0
        for one, _, _ in line:
            spoken = self._spoken(owner, one)
            if spoken is None:  # deleted just now
                return None
            found.append(spoken)
            count += len(spoken.said) + 1
            check_messages(count, limits)
        return found[::-1]

    def _spoken(self, owner: str, name: str) -> Spoken | None:
        rows = self._do(
            "SELECT said, spoken, CASE WHEN spoken IS NULL THEN answer END FROM response"
            " WHERE id = ? AND owner = ?",
            *(name, owner),
        )
        if not rows:
            return None
        said, text, answer = rows[0]
        told = text_of(json.loads(answer)) if text is None else json.loads(text)
        return Spoken(name, json.loads(said), told)

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
                " ORDER BY created, id LIMIT 4",
                *(owner, self._clock(), *after),
            )
            if not rows:
                return
            for row in rows:
                yield _stored(row[:4])
            after = (rows[-1][4], rows[-1][0])


def text_of(answer: dict[str, Any]) -> str:
    """The text of a response."""
    return "".join(part["text"] for item in answer["output"] for part in item["content"])


def _stored(row: tuple[Any, ...]) -> Stored:
    return Stored(row[0], row[1], json.loads(row[2]), json.loads(row[3]))
