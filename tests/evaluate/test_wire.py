"""The remote engine against servers that die, refuse, are silent or are no such server at all."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import DONE, data, event, fake
from PIL import Image

from neva.engine.protocol import Chunk, Request, collect
from neva.engine.remote import RemoteEngine
from neva.engine.wire import Server
from neva.errors import EngineError
from neva.evaluate import Item, evaluate
from neva.evaluate.easy_vqa import EasyVQA
from neva.images import from_pixels
from neva.prompts import ask

HELLO = Request(ask("hello", images=0))


def last_of(said: bytes, status: int = 200, chunked: bool = False) -> tuple[str, Chunk]:
    """What the engine makes of an answer; a stream that never ends fails, and does not wait."""
    got: list[tuple[str, Chunk]] = []
    with fake(lambda body: (status, said), chunked=chunked) as url:
        remote = RemoteEngine(url)
        stream = remote.generate([HELLO])[0]
        reader = threading.Thread(target=lambda: got.append(collect(stream)), daemon=True)
        reader.start()
        reader.join(10)
        remote.close()
    assert got, "the stream has no end"
    return got[0]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_was_cut_off_is_no_answer(chunked: bool) -> None:
    _, last = last_of(event("no, it"), chunked=chunked)
    assert last.finish == "error"
    assert "cut off" in str(last.error)
    assert not last.asker, "another time it may be whole"


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        (event("no") + DONE, "stop"),
        (event("no") + event(finish="stop"), "stop"),
        (event("no", "length") + data({"choices": [], "usage": None}) + DONE, "length"),
        (event("no") + event(finish="eos_token") + DONE, "stop"),
    ],
)
def test_what_ends_an_answer(said: bytes, finish: str) -> None:
    text, last = last_of(said)
    assert (text, last.finish) == ("no", finish)


@pytest.mark.parametrize(("reason", "own"), [("content_filter", True), ("abort", False)])
def test_other_ends_are_errors(reason: str, own: bool) -> None:
    _, last = last_of(event("n") + event(finish=reason) + DONE)
    assert (last.finish, last.asker) == ("error", own)
    assert reason in str(last.error)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ([], r"is no object: \[\]"),
        (7, "is no object: 7"),
        ({"choices": [5]}, "not OpenAI's"),
        ({"choices": 1}, "not OpenAI's"),
        ({"choices": [], "usage": [1]}, "not OpenAI's"),
    ],
)
def test_an_event_of_another_kind_ends_the_stream(said: Any, says: str) -> None:
    _, last = last_of(data(said) + DONE)
    assert last.finish == "error"
    assert re.search(says, str(last.error))


@pytest.mark.parametrize(
    ("status", "own"), [(400, True), (413, True), (422, True), (404, False), (500, False)]
)
def test_what_is_wrong_with_one_question_only(status: int, own: bool) -> None:
    _, last = last_of(b'{"error": {"message": "maximum context length is 10"}}', status)
    assert (last.finish, last.asker) == ("error", own)
    assert "maximum context length" in str(last.error)


def test_as_many_under_way_as_are_asked() -> None:
    meeting = threading.Barrier(100, timeout=20)

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        meeting.wait()  # breaks, and the answer fails, unless all are there
        return 200, event("yes", "stop") + DONE

    with fake(answer) as url:
        remote = RemoteEngine(url)
        ends = [collect(stream)[1].finish for stream in remote.generate([HELLO] * 100)]
        remote.close()
    assert set(ends) == {"stop"}


@pytest.mark.parametrize("by", ["close", "cancel"])
def test_a_silent_server_holds_nobody_up(by: str, caplog: pytest.LogCaptureFixture) -> None:
    silent, asked = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        asked.set()
        silent.wait(30)
        return 200, b""

    with fake(answer) as url:
        remote = RemoteEngine(url, discreet=True)
        stream = remote.generate([HELLO])[0]
        assert asked.wait(10)
        start = time.monotonic()
        if by == "close":
            remote.close()
        else:
            stream.cancel()
        got: list[Chunk] = []
        reader = threading.Thread(target=lambda: got.append(collect(stream)[1]), daemon=True)
        reader.start()
        reader.join(10)
        assert time.monotonic() - start < 5
        assert [chunk.finish for chunk in got] == ["cancelled"]
        silent.set()
        while remote._under_way and time.monotonic() < start + 10:
            time.sleep(0.01)
    assert not remote._under_way
    assert not caplog.records, "who leaves is no fault of the server"


PAGE = b"<!doctype html><html><body>Directory listing</body></html>"


@pytest.mark.parametrize(
    ("told", "status", "says"),
    [
        (PAGE, 404, "no OpenAI-compatible server at http://.*the server answered 404: Not Found"),
        (PAGE, 200, "no OpenAI-compatible server at http://.*/v1/models is not JSON"),
        (b'[{"id": "m"}]', 200, "no OpenAI-compatible server at .* no list of models"),
        (b'{"data": ["m"]}', 200, "no OpenAI-compatible server at .* no list of models"),
        (b'{"data": []}', 200, "serves no model"),
        (b'{"error": {"message": "bad key"}}', 401, "http://.* 401: bad key .*another key"),
        (b"", 503, "http://.* answered 503: Service Unavailable"),
    ],
)
def test_another_kind_of_server_is_one_sentence(told: bytes, status: int, says: str) -> None:
    server = fake(lambda body: (200, b""), told, status)
    with server as url, pytest.raises(EngineError, match=says) as caught:
        RemoteEngine(url)
    assert "<" not in str(caught.value)


def test_an_impossible_port_is_one_sentence() -> None:
    with pytest.raises(EngineError, match="not an http address"):
        RemoteEngine("http://localhost:99999")


def three(folder: Path) -> list[Item]:
    path = folder / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    facts = {"majority": "red"}
    return [Item(f"q{n}", f"number {n}?", path, ("red",), "color", facts) for n in range(3)]


def test_a_refused_question_earns_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        if "number 1" in json.dumps(body):
            return 422, b'{"detail": "longer than the context"}'
        return 200, event("red", "stop") + DONE

    partial = tmp_path / "out.partial.jsonl"
    with fake(answer) as url:
        remote = RemoteEngine(url)
        report = evaluate(EasyVQA(), remote, items=three(tmp_path), partial=partial)
        again = evaluate(EasyVQA(), remote, items=three(tmp_path), partial=partial)
        remote.close()
    assert [one.credit for one in report.judged] == [1, 0, 1]
    assert report.errors == again.errors == 1
    assert "longer than the context" in str(report.judged[1].error)
    assert again.resumed == 2, "what could not be asked is asked again"


def test_a_run_of_which_nothing_could_be_asked_has_no_score(tmp_path: Path) -> None:
    with fake(lambda body: (400, b'{"error": "no such parameter: seed"}')) as url:
        remote = RemoteEngine(url)
        with pytest.raises(EngineError, match=r"no question could be asked.*no such parameter"):
            evaluate(EasyVQA(), remote, items=three(tmp_path))
        remote.close()


def test_a_dying_server_leaves_no_half_answer_to_a_resumed_run(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial.jsonl"
    dying = True

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        whole = event("red") + event(finish="stop") + DONE
        return 200, event("re") if dying and "number 2" in json.dumps(body) else whole

    with fake(answer) as url:
        remote = RemoteEngine(url)
        with pytest.raises(EngineError, match=r"question 'q2'.*cut off"):
            evaluate(EasyVQA(), remote, items=three(tmp_path), partial=partial, in_flight=1)
        dying = False
        report = evaluate(EasyVQA(), remote, items=three(tmp_path), partial=partial)
        remote.close()
    assert report.resumed == 2
    assert report.metrics["accuracy"] == 100


def test_a_handshake_that_never_comes_holds_nobody_up() -> None:
    """A connection that is still being made can be left as one whose answer is awaited."""
    with fake(lambda body: (200, b"")) as url, socket.create_server(("127.0.0.1", 0)) as mute:
        remote = RemoteEngine(url)
        remote._server = Server(f"https://127.0.0.1:{mute.getsockname()[1]}", None)
        stream = remote.generate([HELLO])[0]
        mute.accept()
        start = time.monotonic()
        stream.cancel()
        assert collect(stream)[1].finish == "cancelled"
        assert time.monotonic() - start < 2


@contextmanager
def closing_early(answer: bytes) -> Iterator[str]:
    """A server that answers a POST when it has its head, and reads no body, as nginx does."""

    def one(wire: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += wire.recv(1000)
        models = b'{"data": [{"id": "m"}]}'
        good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(models), models)
        wire.sendall(good if head.startswith(b"GET") else answer)
        wire.close()

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(door.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


def test_what_is_said_of_a_body_that_is_too_large_is_read() -> None:
    told = b'{"error": {"message": "too large"}}'
    head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    asked = Request(ask("what?"), (from_pixels(noise),))
    with closing_early(head % len(told) + told) as url:
        last = collect(RemoteEngine(url, discreet=True).generate([asked])[0])[1]
    assert (last.finish, last.error, last.asker) == ("error", "too large", True)


def test_no_secret_in_a_sentence() -> None:
    with fake(lambda body: (200, b"")) as url:
        with pytest.raises(EngineError, match="serves m, not 'other'") as caught:
            RemoteEngine(url.replace("//", "//ann:secret@"), "other")
        assert "secret" not in str(caught.value)
    with pytest.raises(EngineError, match="no HTTP header may have"):
        Server("http://127.0.0.1:1", "schlüssel")
    nan = b'{"data": [{"id": "m", "max_model_len": NaN}]}'
    with fake(lambda body: (200, b""), nan) as url:
        assert RemoteEngine(url).info.context == 0
