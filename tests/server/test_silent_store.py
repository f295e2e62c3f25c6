"""A PostgreSQL that says nothing, and servers that start at the same moment; without one."""

import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from neva.server.database import Database, PostgresDatabase, Rows, SqliteDatabase, StoreError
from neva.server.file_store import FileStore
from neva.server.settings import Limits
from neva.server.store import Store


class Lost(Exception):
    """Stands for psycopg.Error."""


class Connection:
    """A connection whose server is silent while `frozen`."""

    def __init__(self, state: SimpleNamespace) -> None:
        self._state, self.closed = state, False
        self._near, self._far = socket.socketpair()
        state.made += 1

    def fileno(self) -> int:
        return self._near.fileno()

    def execute(self, *_: object) -> Any:
        if self.closed:
            raise Lost
        if self._state.frozen:
            self._near.settimeout(5)
            self._near.recv(1)  # until somebody hangs up
            self.closed = True
            raise Lost
        return SimpleNamespace(description=True, fetchall=lambda: [(1,)])

    def close(self) -> None:
        self._near.close()
        self._far.close()


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    state = SimpleNamespace(frozen=False, made=0)
    errors = SimpleNamespace(DiskFull=type("DiskFull", (Lost,), {}))
    fake = SimpleNamespace(
        connect=lambda *_, **__: Connection(state), errors=errors, Error=Lost, OperationalError=Lost
    )
    monkeypatch.setitem(sys.modules, "psycopg", fake)
    yield state


def test_a_silent_postgres_holds_nobody_up_for_long(state: SimpleNamespace) -> None:
    database = PostgresDatabase("postgresql://neva@db/neva", silent=1.1, rest=1.0)
    assert database.do("SELECT 1") == [(1,)]
    state.frozen = True

    def asked(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(StoreError):
            database.do("SELECT 1")
        return time.monotonic() - began

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(asked, range(4))) < 3
    assert asked(0) < 0.2, "it is left alone for a while"
    state.frozen = False
    time.sleep(1.1)
    assert database.do("SELECT 1") == [(1,)] and state.made == 2
    database.close()


class Crowded:
    """A database in which another server makes the same table at the same moment, `times` times."""

    def __init__(self, inner: Database, times: int) -> None:
        self._inner, self._times, self.place = inner, times, "crowded"

    def do(self, sql: str, *values: object) -> Rows:
        if sql.startswith("CREATE TABLE") and self._times:
            self._times -= 1
            raise StoreError("duplicate key value violates pg_type_typname_nsp_index")
        return self._inner.do(sql, *values)

    def forget(self) -> None:
        self._inner.forget()

    def close(self) -> None:
        self._inner.close()


def test_servers_that_start_together_all_get_their_tables() -> None:
    Store(Crowded(SqliteDatabase(None), 1)).close()
    FileStore(Crowded(SqliteDatabase(None), 2), Limits())
    with pytest.raises(StoreError, match="mend it"):
        Store(Crowded(SqliteDatabase(None), 99))
