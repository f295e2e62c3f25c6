"""The key file in an operator's hands: several at once, other owners, links, comments."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from echo_engine import EchoEngine
from server_house import CHAT, House
from test_keys import bearer, run

from neva.commands.key import alone, write
from neva.server.auth import Key, KeyRing, Keys, hashed
from neva.server.settings import Settings


def test_two_commands_at_once_lose_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with alone(file):  # as another command that has read the file, and has yet to write it
        other = threading.Thread(target=run, args=("new", "bob", "--file", file))
        other.start()
        other.join(0.5)
        assert other.is_alive(), "it waits"
        write(file, "ann", Key("ann", "0" * 64))
    other.join(10)
    assert [key.name for key in Keys.read(file).keys] == ["ann", "bob"]
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_owner_mode_links_and_comments_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "keys", tmp_path / "link"
    run("new", "ann", "--file", file)
    file.write_text(f"# paying\n{file.read_text().strip()}  # ticket 7\n")
    file.chmod(0o640)
    link.symlink_to(file.name)
    before = file.stat()
    if os.getuid() == 0:
        os.chown(file, 12345, 12345)
        before = file.stat()
    run("new", "bob", "--file", link)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    ), "the server, which may be another user, can still read it"
    assert link.is_symlink() and [key.name for key in Keys.read(file).keys] == ["ann", "bob"]
    lines = file.read_text().splitlines()
    assert lines[0] == "# paying" and lines[1].endswith("# ticket 7")
    run("remove", "ann", "--file", link)
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["#", "bob"]


def test_the_list_is_for_people(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    run("new", "ann", "--file", file, "--running", "2")
    old = Keys.read(file).keys[0].digest
    run("rotate", "ann", "--file", file, "--grace", "1")
    (line,) = run("list", "--file", file).splitlines()
    assert line.startswith("ann ") and "running=2 (the key before it works until 20" in line
    assert old not in line


def test_limits_change_and_the_secret_stays(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    secret = run("new", "ann", "--file", file, "--running", "2", "--per-minute", "9")
    assert run("limit", "ann", "--file", file, "--running", "8") == ""
    found = Keys.read(file).find(secret)
    assert found is not None and (found.running, found.per_minute) == (8, 9)


def test_a_file_that_may_be_read_again_is_read(tmp_path: Path) -> None:
    now, file = 0.0, tmp_path / "keys"
    run("new", "ann", "--file", file)
    ring = KeyRing(Keys(), file, clock=lambda: now)
    times = file.stat()
    secret = run("new", "bob", "--file", file)
    words = file.read_bytes()
    file.write_bytes(b"\xff")  # stands for a file that we may not read
    now += 1
    assert not ring.keys.find(secret)
    with file.open("r+b") as same:
        same.write(words)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    ring.keys.find(secret)
    now += 1
    assert ring.keys.find(secret)
    seen = ring._stamp()
    file.chmod(0o644)
    assert ring._stamp() != seen, "another mode may let us read what we could not"


@pytest.mark.parametrize(("asked", "status"), [(2, 200), (3, 422)])
def test_each_of_n_answers_is_one_of_the_keys(
    asked: int, status: int, house_of: Callable[..., House]
) -> None:
    house = house_of(Settings(keys=Keys((Key("ann", hashed("a"), running=2),))), EchoEngine())
    body = {"messages": [{"role": "user", "content": "Hi"}], "n": asked}
    for _ in range(2):  # places come back
        told = house.client.post(CHAT, json=body, headers=bearer("a"))
        assert told.status_code == status, told.text
    assert status == 200 or "at most 2 for this key" in told.text
