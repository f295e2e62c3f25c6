"""Faults made on purpose: clients that leave or stop reading, processes killed or ended."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from echo_engine import EchoEngine, wait_until
from real_server import serving
from server_house import CHAT, NVIDIA, WEB, Live

from neva.server.settings import Limits, Settings

Make = Callable[..., Live]
STEP = 0.4


def request_bytes(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def cut(client: socket.socket) -> None:
    """Break the connection as a crash does: RST, no goodbye."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("abruptly", [True, False])
def test_leaving_mid_stream_ends_the_answer_within_a_step(live: Make, abruptly: bool) -> None:
    engine = EchoEngine(pause=STEP)
    server = live(engine, Settings(limits=Limits(running=1, waiting=1)))
    body = {"messages": [{"role": "user", "content": "word " * 100}], "stream": True}
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(request_bytes(NVIDIA, body))
    assert b"data: {" in client.recv(10_000) + client.recv(10_000)
    (stream,) = engine.streams
    said, left = len(stream.said), time.monotonic()
    cut(client) if abruptly else client.close()
    assert stream.cancelled.wait(20)
    steps = 1 + (time.monotonic() - left) / STEP  # on a busy machine noticing takes its time
    assert stream.ended.wait(20)
    words = [chunk for chunk in stream.said[said:] if chunk.text]
    assert len(words) <= steps, "the step under way, and none after it"
    assert stream.said[-1].finish == "cancelled"
    short = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    assert WEB.post(server.url + NVIDIA, json=short).status_code == 200, "its place is free"
    text = WEB.get(f"{server.url}/metrics").text
    assert 'request_finish_total{finished_reason="abort",model_name="echo"} 1.0' in text


def test_a_client_that_stops_reading_is_hung_up_on(live: Make) -> None:
    """Its answer is larger than all buffers between us; the place is given to the next."""
    engine = EchoEngine(context=10**8)
    server = live(engine, Settings(limits=Limits(running=1, waiting=1, send_seconds=0.3)))
    body = {
        "messages": [{"role": "user", "content": "w" * 12_000_000 + " end"}],
        "stream": True,
    }
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(request_bytes(NVIDIA, body))
        short = {"messages": [{"role": "user", "content": "Hi"}]}
        assert wait_until(lambda: bool(engine.streams), 60)
        assert WEB.post(server.url + NVIDIA, json=short).status_code == 200
        got, client_sees = b"", b"."
        client.settimeout(60)
        try:
            while client_sees:
                client_sees = client.recv(1_000_000)
                got = (got + client_sees)[-100:]
        except ConnectionError:
            pass
    assert b"[DONE]" not in got


@contextmanager
def served(checkpoint: Path, data: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`neva serve` with a tiny model, ready."""
    with serving(checkpoint, "--data", str(data), "--log", "json") as (url, process):
        yield process, url


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


LONG = {"messages": [{"role": "user", "content": "Go on"}], "temperature": 0, "stream": True}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_ends_of_the_whole_server(checkpoint: Path, tmp_path: Path) -> None:
    """SIGTERM finishes what is under way; SIGKILL leaves no engine behind and no store broken."""
    said = {"input": "Remember me", "max_output_tokens": 4}
    with served(checkpoint, tmp_path) as (process, url):
        stored = WEB.post(url + "/v1/responses", json=said, timeout=60).json()["id"]
        with WEB.stream("POST", url + CHAT, json={**LONG, "max_tokens": 400}, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2][6:])["choices"][0]["finish_reason"] in ("stop", "length")
        assert process.wait(60) == 0
    with served(checkpoint, tmp_path) as (process, url):
        engines = children(process.pid)
        assert engines
        more = {**said, "previous_response_id": stored}
        second = WEB.post(url + "/v1/responses", json=more, timeout=60).json()["id"]
        with WEB.stream("POST", url + CHAT, json={**LONG, "max_tokens": 400}, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.kill()
            with pytest.raises(httpx.TransportError):
                list(lines)
                WEB.get(url + "/ping")  # where the whole answer had come already
        assert wait_until(lambda: not any(map(alive, engines)), 30), "an engine was left behind"
    with served(checkpoint, tmp_path) as (_, url):
        assert WEB.get(f"{url}/v1/responses/{second}").json()["previous_response_id"] == stored


def test_many_slow_clients_do_not_keep_others_out(live: Make) -> None:
    """Two hundred connections that say a letter now and then; an honest one is answered."""
    server = live(EchoEngine())
    stop = threading.Event()

    def drip(client: socket.socket) -> None:
        for byte in b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n":
            if stop.wait(0.5):
                return
            client.sendall(bytes([byte]))

    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    with ThreadPoolExecutor(200) as pool:
        try:
            for client in slow:
                pool.submit(drip, client)
            body = {"messages": [{"role": "user", "content": "Hi"}]}
            assert WEB.post(server.url + CHAT, json=body, timeout=30).status_code == 200
        finally:
            stop.set()
            for client in slow:
                client.close()


def test_the_kill_is_real() -> None:
    """The helper that looks for processes sees one that lives and one that does not."""
    assert alive(os.getpid())
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(process.pid) and process.pid in children(os.getpid())
    process.kill()
    assert wait_until(lambda: not alive(process.pid))
    process.communicate()
