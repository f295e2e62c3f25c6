"""Clients that do not read, whatever they asked for, and more connections than there may be."""

import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from echo_engine import EchoEngine, wait_until
from server_house import NVIDIA, WEB, Live, png

from neva.server.auth import Key, Keys, hashed
from neva.server.patience import PatientProtocol, connections
from neva.server.pieces import PIECE, in_pieces
from neva.server.settings import Limits, Settings

Make = Callable[..., Live]
QUICK = Settings(limits=Limits(send_seconds=0.5))
LARGE = PIECE * 200


def get(path: str, key: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def deaf(port: int, said: bytes) -> socket.socket:
    """A client that says something and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    client.sendall(said)
    return client


def ended(client: socket.socket) -> int | None:
    """How many bytes came before the server hung up; None if it has not."""
    got = 0
    try:
        while piece := client.recv(1_000_000):
            got += len(piece)
    except ConnectionError:
        pass
    except TimeoutError:
        return None
    return got


def store(server: Live, headers: dict[str, str] | None = None) -> str:
    """A stored picture of LARGE bytes, by its path."""
    data = png()
    form = {"files": {"file": ("a.png", data + bytes(LARGE - len(data)))}}
    said = WEB.post(f"{server.url}/v1/files", **form, data={"purpose": "vision"}, headers=headers)
    assert said.status_code == 200, said.text
    return f"/v1/files/{said.json()['id']}/content"


def test_a_file_comes_whole_to_those_who_read(live: Make) -> None:
    server = live(EchoEngine(), QUICK)
    path = server.url + store(server)
    assert WEB.get(path).content == png() + bytes(LARGE - len(png()))
    assert WEB.head(path).status_code in (200, 405)


def test_who_does_not_read_a_file_is_hung_up_on(live: Make) -> None:
    """Its key's place is not free before."""
    keys = Keys((Key("ann", hashed("a"), running=1),))
    server = live(EchoEngine(), Settings(keys=keys, limits=Limits(send_seconds=1)))
    ann = {"authorization": "Bearer a"}
    path = store(server, ann)

    def status() -> int:
        return WEB.get(f"{server.url}/v1/models", headers=ann).status_code

    assert wait_until(lambda: status() == 200)
    with deaf(server.port, get(path, "a")) as client:
        assert wait_until(lambda: status() == 429), "its file was not yet taken"
        assert wait_until(lambda: not server.server.server_state.connections or status() == 200)
        got = ended(client)
    assert got is not None and got < LARGE


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/models", "/web/chat.js", "/nothing"])
def test_who_reads_none_of_many_answers_is_hung_up_on(live: Make, path: str) -> None:
    """Without a key, on a server that has keys, and of every kind of answer."""
    server = live(EchoEngine(), Settings(keys=Keys().with_key("a", "b"), limits=QUICK.limits))
    connected = server.server.server_state.connections
    with deaf(server.port, get(path) * 4000):
        assert wait_until(lambda: len(connected) == 1)
        assert wait_until(lambda: not connected, 60)
    assert wait_until(lambda: not server.server.server_state.tasks), "nothing is left to do"


def test_an_exported_conversation_too(live: Make) -> None:
    server = live(EchoEngine(context=10**8), QUICK)
    said = {"input": [{"role": "user", "content": "w" * 10_000_000}]}
    assert WEB.post(f"{server.url}/v1/responses", json=said).status_code == 200
    with deaf(server.port, get("/v1/responses/export")) as client:
        connected = server.server.server_state.connections
        assert wait_until(lambda: any(one.client == client.getsockname() for one in connected))
        assert wait_until(lambda: all(one.client != client.getsockname() for one in connected))


def test_a_stream_behind_which_more_was_asked_is_cancelled(
    live: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """uvicorn tells the last of several requests only that its client has gone.

    The one under way then failed at writing, as by a fault of ours.
    """
    engine = EchoEngine(pause=0.02)
    server = live(engine)
    body = b'{"stream": true, "messages": [{"role": "user", "content": "%s"}]}' % (b"word " * 300)
    head = f"POST {NVIDIA} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    said = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + get("/ping")
    with deaf(server.port, said):
        assert wait_until(lambda: bool(engine.streams) and len(engine.streams[0].said) > 2)
    assert wait_until(engine.streams[0].ended.is_set)
    assert engine.streams[0].said[-1].finish == "cancelled"
    assert wait_until(lambda: not server.server.server_state.tasks)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_slow_readers_who_read_are_served(live: Make) -> None:
    """Longer than `send_seconds` in all, with something taken in each."""
    server = live(EchoEngine(), QUICK)
    got, until = 0, time.monotonic() + 4 * QUICK.limits.send_seconds
    with deaf(server.port, get(store(server))) as client:
        while time.monotonic() < until:
            time.sleep(0.01)
            piece = client.recv(PIECE)
            assert piece, f"hung up on after {got} bytes"
            got += len(piece)
    assert got < LARGE, "it was slow"


class Few(PatientProtocol):
    """As in production, but with few connections."""

    most = staticmethod(lambda: 8)


def test_the_next_client_is_let_in_for_one_that_keeps_us_waiting(live: Make) -> None:
    """Idle, half said, half sent or not reading: the one that has waited longest goes."""
    server = live(EchoEngine(), protocol=Few)
    half = f"POST {NVIDIA} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{{".encode()
    said = [b"", b"GET /pi", half, get("/ping"), get("/openapi.json") * 4000]
    clients = []
    try:
        for number in range(40):
            clients.append(deaf(server.port, said[number % len(said)]))
            assert httpx.get(f"{server.url}/v1/health/live", timeout=20).status_code == 200
        assert wait_until(lambda: len(server.server.server_state.connections) <= 8)
    finally:
        for client in clients:
            client.close()


def test_who_is_being_answered_is_not_sent_away(live: Make) -> None:
    server = live(EchoEngine(pause=0.1), protocol=Few)
    said = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12}
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.post(server.url + NVIDIA, json=said, timeout=30).status_code)

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    connected = server.server.server_state.connections
    assert wait_until(lambda: len(connected) == 8 and all(c.cycle for c in connected))
    with deaf(server.port, get("/ping")) as late:
        assert ended(late) == 0, "there is no place for it"
    for thread in asking:
        thread.join(30)
    assert answers == [200] * 8


def test_half_of_what_the_system_lets_us_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for files, most in ((256, 128), (1024, 512), (10**6, 1024), (-1, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert connections() == most


def test_pieces_are_the_whole() -> None:
    import asyncio

    async def sent(*bodies: tuple[bytes, bool]) -> list[tuple[bytes, bool]]:
        out: list[tuple[bytes, bool]] = []

        async def send(message):  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.body":
                out.append((message.get("body", b""), message.get("more_body", False)))

        pieces = in_pieces(send)
        await pieces({"type": "http.response.start", "status": 200})
        for body, more in bodies:
            await pieces({"type": "http.response.body", "body": body, "more_body": more})
        return out

    large = bytes(range(256)) * (PIECE // 100)
    out = asyncio.run(sent((large, True), (b"small", True), (large, False)))
    assert b"".join(body for body, _ in out) == large + b"small" + large
    assert max(len(body) for body, _ in out) == PIECE
    assert [more for _, more in out] == [True] * (len(out) - 1) + [False]
    assert out[-1] == (b"", False), "the end waits until all before it has been taken"
    assert asyncio.run(sent((b"", False))) == [(b"", False)]
