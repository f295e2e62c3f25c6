"""Conversations as an operator keeps them: `neva serve` and `neva conversations`, a real file."""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from echo_engine import EchoEngine, wait_until
from real_server import free_port, serving
from server_house import WEB, House, data_uri, png
from test_keys import bearer, run

from neva.server.settings import Settings
from neva.server.store import Store, Stored

RESPONSES = "/v1/responses"
SECRET = "the word is kingfisher"
PICTURE = png(40, 30, (7, 77, 177))


def neva(*words: object, data: Path) -> subprocess.CompletedProcess[str]:
    """`neva WORDS` in a process of its own, whose data folder is `data`."""
    command = [sys.executable, "-m", "neva", *map(str, words)]
    env = {**os.environ, "XDG_DATA_HOME": str(data), "COLUMNS": "100"}
    env.pop("NEVA_API_KEY", None)
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


@contextmanager
def served(checkpoint: Path, data: Path, keys: Path) -> Iterator[tuple[str, Any]]:
    """`neva serve` on the data folder that it takes by itself."""
    told = {"XDG_DATA_HOME": str(data)}
    with serving(checkpoint, "--api-key-file", str(keys), env=told) as running:
        yield running


def say(url: str, secret: str, said: Any, **more: Any) -> dict[str, Any]:
    body = {"input": said, "max_output_tokens": 4, "seed": 1, **more}
    answer = WEB.post(url + RESPONSES, json=body, headers=bearer(secret), timeout=60)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def on_disk(folder: Path, what: str) -> bool:
    """Whether the database or its log holds these bytes."""
    return any(what.encode() in file.read_bytes() for file in folder.glob("responses.sqlite*"))


def test_a_conversations_life(checkpoint: Path, tmp_path: Path) -> None:
    """Said, listed, exported, lost with the server and found again, gone on from, deleted."""
    keys, folder = tmp_path / "keys", tmp_path / "neva"
    ann, bob = (run("new", name, "--file", keys) for name in ("ann", "bob"))
    parts = [
        {"type": "input_text", "text": SECRET},
        {"type": "input_image", "image_url": data_uri(PICTURE)},
    ]
    with served(checkpoint, tmp_path, keys) as (url, process):
        first = say(url, ann, [{"role": "user", "content": parts}])
        second = say(url, ann, "And?", previous_response_id=first["id"])
        say(url, bob, "Bob's")
        form: dict[str, Any] = {"files": {"file": ("a", PICTURE)}, "data": {"purpose": "vision"}}
        assert WEB.post(f"{url}/v1/files", headers=bearer(ann), **form).status_code == 200

        listed = neva("conversations", "list", data=tmp_path)
        lines = [line.split() for line in listed.stdout.splitlines()]
        assert lines[0][:4] == ["owner", "conversations", "responses", "files"], listed.stderr
        assert [line[:4] for line in lines[1:]] == [["ann", "1", "2", "1"], ["bob", "1", "1", "0"]]
        told = neva("conversations", "list", "--json", data=tmp_path).stdout.splitlines()
        one = json.loads(told[0])
        assert (one["owner"], one["responses"], one["files"]) == ("ann", 2, 1)
        assert one["expires"] - one["latest"] == pytest.approx(30 * 24 * 3600, abs=600)

        exported = neva("conversations", "export", "ann", data=tmp_path).stdout.splitlines()
        kept = [json.loads(line) for line in exported]
        assert [line["response"]["id"] for line in kept[:2]] == [first["id"], second["id"]]
        assert kept[0]["input"][0]["content"][0]["text"] == SECRET
        assert base64.b64decode(kept[2]["data"]) == PICTURE and len(kept) == 3
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    with served(checkpoint, tmp_path, keys) as (url, process):
        path = f"{url}{RESPONSES}/{second['id']}"
        assert WEB.get(path, headers=bearer(ann)).json() == second
        third = say(url, ann, "Still?", previous_response_id=second["id"])
        assert third["usage"]["input_tokens"] > second["usage"]["input_tokens"] > 16
        assert WEB.get(path, headers=bearer(bob)).status_code == 404
        assert on_disk(folder, SECRET)

        gone = neva("conversations", "delete", "ann", data=tmp_path)
        assert (gone.returncode, gone.stdout) == (0, "deleted 3 responses and 1 file\n")
        assert WEB.get(path, headers=bearer(ann)).status_code == 404
        assert WEB.get(f"{url}/v1/files", headers=bearer(ann)).json()["data"] == []
        assert not on_disk(folder, SECRET), "deleted, also beside a running server"
        again = neva("conversations", "delete", "ann", data=tmp_path)
        assert again.returncode == 1 and again.stderr.startswith("neva: nothing of ann is stored")
        assert "bob" in neva("conversations", "list", data=tmp_path).stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_what_expires_is_gone_everywhere(house_of: Callable[..., House], tmp_path: Path) -> None:
    folder = tmp_path / "neva"
    house = house_of(Settings(data=folder))
    name = house.client.post(RESPONSES, json={"input": SECRET}).json()["id"]
    with closing(sqlite3.connect(folder / "responses.sqlite")) as file, file:
        file.execute("UPDATE response SET expires = 5")
    assert house.client.get(f"{RESPONSES}/{name}").status_code == 404
    said = house.client.post(RESPONSES, json={"input": "Hi", "previous_response_id": name})
    assert said.status_code == 404
    assert neva("conversations", "list", data=tmp_path).stdout == "nothing is stored\n"
    exported = neva("conversations", "export", "local", data=tmp_path)
    assert (exported.returncode, exported.stdout) == (1, "")
    assert exported.stderr.startswith("neva: nothing of local is stored")
    assert on_disk(folder, SECRET)
    house_of(Settings(data=folder), EchoEngine())  # a server that starts, and every ten minutes
    assert wait_until(lambda: not on_disk(folder, SECRET))


def test_a_conversation_that_branches_counts_twice(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    for name, parent in (("a", None), ("b", "a"), ("c", "a"), ("d", "c"), ("e", None)):
        store.save("ann", Stored(name, parent, [], {"output": []}))
    (ann,) = store.owners()
    assert (ann.responses, ann.threads) == (5, 3)


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    missing = neva("conversations", "list", data=tmp_path)
    assert missing.returncode == 1
    assert "there is no store" in missing.stderr and "--data" in missing.stderr
    (tmp_path / "neva").mkdir()
    Store(tmp_path / "neva" / "responses.sqlite").close()
    whose = neva("conversations", "delete", data=tmp_path)
    assert whose.returncode == 1 and "say whose" in whose.stderr
    (tmp_path / "neva" / "responses.sqlite").write_bytes(b"no database" * 500)
    damaged = neva("conversations", "list", data=tmp_path)
    assert damaged.returncode == 1 and "responses.sqlite" in damaged.stderr
    for verb in (("conversations", "list"), ("serve", "--port", free_port())):
        wrong = neva(*verb, "--store", "mysql://ann:secret@host/x", data=tmp_path)
        assert wrong.returncode == 1 and "PostgreSQL URL" in wrong.stderr
        assert "secret" not in wrong.stderr
    for shown in (missing, whose, damaged, wrong):
        assert shown.stderr.count("\n") == 1 and shown.stdout == ""
