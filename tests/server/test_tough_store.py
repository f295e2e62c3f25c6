"""The store under faults: killed servers, full disks, and PostgreSQL as well as SQLite."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from echo_engine import wait_until
from real_server import free_port
from server_house import WEB, data_uri, png

from neva.server.database import PostgresDatabase, StoreError, StoreFullError, open_database
from neva.server.errors import ApiError
from neva.server.file_store import FileStore
from neva.server.settings import Limits
from neva.server.store import Store, Stored

SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from echo_engine import EchoEngine
from neva.server.app import create_app
from neva.server.address import bind
from neva.server.listen import listen, server_for
from neva.server.settings import Settings
with bind("127.0.0.1", int(sys.argv[3])) as bound:
    app = create_app(EchoEngine(), Settings(data=Path(sys.argv[2])))
    listen(server_for(app), bound, lambda: print("up", flush=True))
"""


@contextmanager
def server(data: Path, largest_file: int | None = None) -> Iterator[tuple[str, Any]]:
    """A server in a process of its own, whose files may grow to `largest_file` bytes."""

    def small_disk() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    port = free_port()
    command = [sys.executable, "-c", SERVER, str(Path(__file__).parent), str(data), str(port)]
    process = subprocess.Popen(command, preexec_fn=small_disk, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def say(url: str, text: str, **more: Any) -> dict[str, Any]:
    response = WEB.post(f"{url}/v1/responses", json={"input": text, **more})
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    return said


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with server(tmp_path) as (url, process):
        names = [say(url, f"Remember {n}")["id"] for n in range(20)]
        file = WEB.post(
            f"{url}/v1/files", files={"file": ("a.png", png())}, data={"purpose": "vision"}
        ).json()["id"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with server(tmp_path) as (url, _):
        for name in names:
            assert WEB.get(f"{url}/v1/responses/{name}").status_code == 200
        assert WEB.get(f"{url}/v1/files/{file}/content").content == png()
        more = say(url, "And?", previous_response_id=names[7])
        assert "Remember 7" in more["output"][0]["content"][0]["text"]
    with sqlite3.connect(tmp_path / "responses.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_is_told_and_spoils_nothing(tmp_path: Path) -> None:
    with server(tmp_path, largest_file=400_000) as (url, _):
        first = say(url, "Before")
        large = png(600, 600, (1, 2, 3)) + os.urandom(300_000)  # a valid picture with a tail
        form = {"files": {"file": ("a.png", large)}, "data": {"purpose": "vision"}}
        answers = [WEB.post(f"{url}/v1/files", **form) for _ in range(3)]  # type: ignore[arg-type]
        full = [answer for answer in answers if answer.status_code == 507]
        assert full and all(a.status_code in (200, 507) for a in answers), [a.text for a in answers]
        assert "full" in full[0].json()["error"]["message"]
        uri = data_uri(large)
        parts = [{"type": "input_image", "image_url": uri}, {"type": "input_text", "text": "?"}]
        spoken = say(url, [{"role": "user", "content": parts}])  # type: ignore[arg-type]
        assert spoken["store"] is False and "(600, 600)" in str(spoken["output"])
        assert WEB.get(f"{url}/v1/responses/{first['id']}").json() == first
    with server(tmp_path) as (url, _):
        assert WEB.get(f"{url}/v1/responses/{first['id']}").json() == first
        assert say(url, "After")["store"] is True
    with sqlite3.connect(tmp_path / "responses.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_database_is_507(tmp_path: Path) -> None:
    database = open_database(tmp_path / "s.sqlite")
    store = Store(database)
    store.save("ann", Stored("one", None, [], {"output": []}))
    pages = database.do("PRAGMA page_count")[0][0]
    database.do(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError):
        store.save("ann", Stored("two", None, [{"x": "y" * 100_000}], {"output": []}))
    assert store.find("ann", "one") is not None and store.find("ann", "two") is None


def binaries() -> Path | None:
    """PostgreSQL's programs, which Debian does not put into PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """A PostgreSQL of our own on a free port: (URL, restart)."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra postgres)")
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = tmp_path_factory.mktemp("postgres")
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and runuser is missing")
        for part in (folder, *folder.parents):
            if part.stat().st_uid == 0 and part != Path("/") and not part.stat().st_mode & 0o001:
                part.chmod(part.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    port = free_port()

    def run(program: str, *words: str) -> None:
        command = [*as_user, str(programs / program), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    data = str(folder / "data")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"

    def control(*words: str) -> None:
        run("pg_ctl", "-w", "-D", data, "-l", str(folder / "log"), "-o", options, *words)

    run("initdb", "-D", data, "-U", "neva", "-A", "trust", "-N")
    control("start")
    try:
        yield f"postgresql://neva@127.0.0.1:{port}/postgres", control
    finally:
        control("-m", "immediate", "stop")


@pytest.mark.slow
def test_postgres_keeps_what_sqlite_keeps(postgres: tuple[str, Any]) -> None:
    url, control = postgres
    now = 1000.0
    database = PostgresDatabase(url)
    database.do(  # as an older release made it
        "CREATE TABLE response (id TEXT PRIMARY KEY, owner TEXT NOT NULL, parent TEXT, created REAL"
        " NOT NULL, expires REAL NOT NULL, said TEXT NOT NULL, answer TEXT NOT NULL)"
    )
    store = Store(database, keep_days=1, clock=lambda: now)
    for number in range(9):
        store.save("carl", Stored(f"c{number}", None, [{"x": "y" * 900}], {"output": []}), 5000)
    assert [s.id for s in store.export("carl")] == ["c4", "c5", "c6", "c7", "c8"]
    assert store.delete_all("carl") == 5
    files = FileStore(database, Limits(), keep_days=1, clock=lambda: now)
    said = [{"role": "user", "content": "größe \u0000 100% ?"}]
    store.save("ann", Stored("one", None, said, {"output": []}))
    store.save("ann", Stored("two", "one", said, {"output": [], "text": "é"}))
    store.save("bob", Stored("three", None, said, {"output": []}))
    assert [s.id for s in store.chain("ann", "two") or []] == ["one", "two"]
    assert store.chain("ann", "two")[0].said == said  # type: ignore[index]
    assert store.find("bob", "one") is None
    assert [s.id for s in store.export("ann")] == ["one", "two"]
    held = [(one.owner, one.responses, one.threads) for one in store.owners()]
    assert held == [("ann", 2, 1), ("bob", 1, 1)]
    name = files.add("ann", "a?.png", "vision", png()).id
    assert files.owners() == {"ann": 1}
    assert files.data("ann", name) == png()
    with pytest.raises(ApiError):
        files.data("bob", name)
    control("-m", "immediate", "restart")  # as kill -9: nothing that was told is lost
    with pytest.raises(StoreError):
        PostgresDatabase(url.replace("neva@", "nobody@"))
    assert wait_until(lambda: store.find("ann", "two") is not None), "the connection is made again"
    assert files.data("ann", name) == png()
    assert store.delete("ann", "one") and not store.delete("ann", "one")
    assert store.delete_all("ann") == 1
    now += 24 * 3600 + 1
    store.save("bob", Stored("four", None, said, {"output": []}))
    assert (store.expire(), files.expire(), files.delete_all("ann")) == (1, 1, 0)
    assert database.do("SELECT id FROM response") == [("four",)], "the expired are gone"


def test_a_wrong_postgres_url_tells_no_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra postgres)")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1") as told:
        PostgresDatabase(f"postgresql://ann:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(told.value)
