"""API keys: hashed at rest, limited each for itself, rotated without a restart."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from echo_engine import EchoEngine, wait_until
from server_house import NVIDIA, WEB, House, Live
from typer.testing import CliRunner

from neva.commands.key import key
from neva.errors import NevaError
from neva.server.auth import Key, KeyRing, Keys, hashed, is_loopback, new_key
from neva.server.errors import ApiError
from neva.server.quota import Quota
from neva.server.settings import Settings

HI = {"messages": [{"role": "user", "content": "Hi"}]}
single = typer.Typer()
single.command()(key)


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(single, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_line_and_back() -> None:
    for made in (
        Key("ann", "0" * 64),
        Key("b@c.d-1", "f" * 64, 3, 60, "metrics", "1" * 64, 1800000000),
    ):
        assert Key.parse(made.line) == made
    assert Key.parse(f"ann sha256:{'0' * 64}") == Key("ann", "0" * 64)


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann in-the-clear-7",
        "a/b " + "0" * 64,
        "ann " + "0" * 64 + " running=0",
        "ann " + "0" * 64 + " running=many",
        "ann " + "0" * 64 + " only=everything",
        "ann " + "0" * 64 + " sudo=1",
        "ann " + "0" * 64 + " until=5",
        "ann " + "0" * 64 + " old=short until=5",
    ],
)
def test_wrong_lines(line: str, tmp_path: Path) -> None:
    assert Key.parse(line) is None
    (tmp_path / "keys").write_text(f"# keys\n{line}\n")
    with pytest.raises(NevaError, match="line 2") as told:
        Keys.read(tmp_path / "keys")
    assert "clear-7" not in str(told.value).replace(str(tmp_path), "")


def test_keys_are_long_and_held_as_hashes() -> None:
    secret = new_key()
    assert len(secret) > 40 and new_key() != secret
    keys = Keys().with_key("ann", secret)
    assert secret not in repr(keys)
    found = keys.find(secret)
    assert found is not None and found.name == "ann"
    assert keys.find(secret + "x") is None and keys.find("") is None and keys.find("\udcff") is None


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "keys"
    secret = run("new", "ann", "--file", file, "--per-minute", "60")
    run("new", "bob", "--file", file, "--only", "metrics")
    assert secret not in file.read_text()
    assert hashed(secret) in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert (
        run("list", "--file", file).splitlines()[0] == f"ann {hashed(secret)[:8]}... per-minute=60"
    )
    with pytest.raises(NevaError, match="already"):
        run("new", "ann", "--file", file)
    run("remove", "ann", "--file", file)
    assert [known.name for known in Keys.read(file).keys] == ["bob"]
    for words in (("remove", "ann"), ("new", "a b")):
        with pytest.raises(NevaError):
            run(*words, "--file", file)
    assert [path.name for path in file.parent.iterdir()] == ["keys"]


def test_rotation_keeps_name_and_limits(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = run("new", "ann", "--file", file, "--per-minute", "7")
    second = run("rotate", "ann", "--file", file, "--grace", "2")
    keys, now = Keys.read(file), time.time()
    for secret in (first, second):
        found = keys.find(secret)
        assert found is not None and (found.name, found.per_minute) == ("ann", 7)
    assert keys.find(first, now + 7300) is None, "the grace is over"
    assert keys.find(second, now + 7300) is not None
    third = run("rotate", "ann", "--file", file)
    keys = Keys.read(file)
    assert keys.find(third) and not keys.find(second) and not keys.find(first)
    assert third not in file.read_text()
    with pytest.raises(NevaError, match="no key named"):
        run("rotate", "bob", "--file", file)


def test_a_ring_follows_its_file(tmp_path: Path) -> None:
    now, file = 0.0, tmp_path / "keys"
    first = run("new", "ann", "--file", file)
    ring = KeyRing(Keys(), file, clock=lambda: now)
    assert ring.keys.find(first)
    second = run("new", "bob", "--file", file)
    assert ring.keys.find(second) is None, "looked at once a second"
    now += 1
    assert ring.keys.find(second)
    file.write_text("broken\n")
    os.utime(file, (5, 5))
    now += 1
    assert ring.keys.find(first), "a broken file changes nothing"
    file.unlink()
    now += 1
    assert ring.keys.find(first)


def test_removing_a_key_closes_the_door(house_of: Callable[..., House], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    secret = run("new", "ann", "--file", file)
    house = house_of(Settings(key_file=file))
    assert house.client.get("/v1/models", headers=bearer(secret)).status_code == 200
    run("remove", "ann", "--file", file)
    refused = wait_until(
        lambda: house.client.get("/v1/models", headers=bearer(secret)).status_code == 401
    )
    assert refused, "an empty file still closes the server"


def test_scopes(house_of: Callable[..., House]) -> None:
    keys = (Key("ann", hashed("ask"), only="ask"), Key("pro", hashed("scrape"), only="metrics"))
    house = house_of(Settings(keys=Keys(keys)))
    assert house.client.post(NVIDIA, json=HI, headers=bearer("ask")).status_code == 200
    assert house.client.get("/metrics", headers=bearer("ask")).status_code == 403
    assert house.client.post(NVIDIA, json=HI, headers=bearer("scrape")).status_code == 403
    assert house.client.get("/metrics", headers=bearer("scrape")).status_code == 200


def test_so_many_a_minute() -> None:
    now, quota, slow = 0.0, None, Key("ann", "0" * 64, per_minute=2)
    quota = Quota(clock=lambda: now)

    def ask(by: Key = slow) -> int:
        try:
            with quota.request(by, NVIDIA):
                return 200
        except ApiError as error:
            assert error.headers is not None
            return -int(error.headers["Retry-After"])

    assert [ask(), ask(), ask()] == [200, 200, -30]
    assert ask(Key("bob", "1" * 64, per_minute=2)) == 200, "each key for itself"
    now += 29
    assert ask() == -1
    now += 1
    assert [ask(), ask()] == [200, -30]


def test_so_many_at_once(live: Callable[..., Live]) -> None:
    keys = Keys((Key("ann", hashed("a"), running=1), Key("bob", hashed("b"))))
    server = live(EchoEngine(pause=0.02), Settings(keys=keys))
    long = {"messages": [{"role": "user", "content": "word " * 300}], "stream": True}
    url = server.url + NVIDIA
    with WEB.stream("POST", url, json=long, headers=bearer("a")) as first:
        lines = first.iter_lines()
        next(lines)
        assert WEB.post(url, json=HI, headers=bearer("a")).status_code == 429
        assert WEB.post(url, json=HI, headers=bearer("b")).status_code == 200
    assert wait_until(lambda: WEB.post(url, json=HI, headers=bearer("a")).status_code == 200)
