"""Where the server's memory lies: an SQLite file, or PostgreSQL by URL. One statement at a time.

Both speak the same SQL here, with `?` for values. All calls block: use them from reading threads.
A statement is done or not done, never half: a killed server or a full disk leaves whole rows.
"""

import contextlib
import importlib
import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from neva.errors import NevaError

BUSY_SECONDS = 1.0
SILENT_SECONDS = 10.0
"""PostgreSQL's time for a statement. Without one, a frozen host would hold every reading thread."""
REST_SECONDS = 30.0
"""For so long a PostgreSQL that was silent is not asked again."""
SQLITE_FULL, SQLITE_IOERR = 13, 10
FULL = "the store is full: delete files or responses, or ask the operator for more room"
BROKEN = "the store cannot be used now; try again later"
Rows = list[tuple[Any, ...]]


class StoreError(NevaError):
    """The store cannot be read or written: it is damaged, busy, or its server is gone."""

    status = 503


class StoreFullError(StoreError):
    """Nothing more can be written; what is stored can be read."""

    status = 507


class Database(Protocol):
    """Somewhere to keep rows; `place` is how people know it, without a password."""

    place: str

    def do(self, sql: str, *values: object) -> Rows:
        """One statement, committed; StoreError without the database's own words."""
        ...

    def forget(self) -> None:
        """What was deleted leaves the disk, as far as that is in our hands."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_database(where: Path | str | None) -> Database:
    """A PostgreSQL URL, an SQLite file, or (None) memory; NevaError for another URL."""
    if not isinstance(where, str):
        return SqliteDatabase(where)
    if urlsplit(where).scheme not in ("postgresql", "postgres"):
        raise NevaError(
            "--store must be a PostgreSQL URL, postgresql://USER@HOST/NAME; an SQLite file lies in "
            "the folder that --data names"
        )
    return PostgresDatabase(where)


def patiently(prepare: Callable[[], None]) -> None:
    """Do what makes the tables, again where another server that starts now was in the way."""
    for wait in (0.1, 0.3, 1.0):
        try:
            prepare()
            return
        except StoreFullError:
            raise
        except StoreError:
            time.sleep(wait * random.uniform(0.5, 1.5))
    prepare()


class SqliteDatabase:
    """One file, with a log beside it so that a killed process leaves it whole."""

    def __init__(self, path: Path | None) -> None:
        self.place = str(path or "in memory")
        self._lock = threading.Lock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path or ":memory:", BUSY_SECONDS, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("PRAGMA secure_delete=ON")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open the store of responses {path}: {error}") from None

    def do(self, sql: str, *values: object) -> Rows:
        """See `Database`."""
        with self._lock:
            try:
                with self._db:
                    return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                full = code in (SQLITE_FULL, SQLITE_IOERR)
                raise (StoreFullError(FULL) if full else StoreError(BROKEN)) from None

    def forget(self) -> None:
        """Empty the log, which holds rows as they were before they were deleted.

        The file itself has zeros in their place (`secure_delete`). Left for the next time when
        another process is reading.
        """
        with contextlib.suppress(StoreError):
            self.do("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


class PostgresDatabase:
    """One connection, made again when it was lost. Needs psycopg (the extra `postgres`).

    A server that says nothing is hung up on, and then left alone for a while: who stores nothing
    must not wait for it. Statements that change tables have all the time they need.
    """

    def __init__(
        self, url: str, silent: float = SILENT_SECONDS, rest: float = REST_SECONDS
    ) -> None:
        try:
            self._psycopg: Any = importlib.import_module("psycopg")
        except ImportError:
            raise NevaError(
                "a store in PostgreSQL needs psycopg: pip install 'neva-vlm[postgres]'"
            ) from None
        self._url, self._silent, self._rest = url, silent, rest
        self._asleep_until = 0.0
        self.place = f"PostgreSQL at {urlsplit(url).hostname or 'the default socket'}"
        self._lock = threading.Lock()
        try:
            self._db = self._connected()
        except self._psycopg.Error:
            raise StoreError(
                f"cannot reach {self.place}: is it up, and are name and password right?"
            ) from None

    def _connected(self) -> Any:
        return self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)

    def do(self, sql: str, *values: object) -> Rows:
        """See `Database`."""
        words = sql.replace("?", "%s").replace(" BLOB", " BYTEA").replace(" REAL", " FLOAT8")
        errors = self._psycopg.errors
        if not self._lock.acquire(timeout=self._silent):
            raise StoreError(BROKEN)
        began = time.monotonic()
        try:
            if began < self._asleep_until:
                raise StoreError(BROKEN)
            return self._tried(words, values)
        except errors.DiskFull:
            raise StoreFullError(FULL) from None
        except self._psycopg.Error:
            if self._db.closed and time.monotonic() - began > 1:
                self._asleep_until = time.monotonic() + self._rest
            raise StoreError(BROKEN) from None
        finally:
            self._lock.release()

    def _tried(self, words: str, values: tuple[object, ...]) -> Rows:
        """The statement, a second time if the connection had been lost before the first."""
        began = time.monotonic()
        try:
            return self._rows(words, values)
        except self._psycopg.OperationalError:
            if not self._db.closed or time.monotonic() - began >= self._silent:
                raise
        self._db = self._connected()
        return self._rows(words, values)

    def _rows(self, words: str, values: tuple[object, ...]) -> Rows:
        patience = threading.Timer(self._silent, _hang_up, (self._db,))
        patience.daemon = True
        if not words.startswith(("ALTER", "CREATE", "UPDATE")):
            patience.start()
        try:
            cursor = self._db.execute(words, values or None)
            return cursor.fetchall() if cursor.description else []
        finally:
            patience.cancel()

    def forget(self) -> None:
        """Nothing: PostgreSQL's own vacuum does it."""

    def close(self) -> None:
        """End the connection."""
        with self._lock, contextlib.suppress(self._psycopg.Error):
            self._db.close()


def _hang_up(connection: Any) -> None:
    """End a connection from another thread: whoever waits for its answer gets an error."""
    with contextlib.suppress(Exception):  # it has ended by itself
        plug = socket.socket(fileno=os.dup(connection.fileno()))
        with plug:
            plug.shutdown(socket.SHUT_RDWR)
