"""HTTP to one OpenAI-compatible server: a connection for each request, which any thread may cut.

Only the standard library. Nothing here knows what an answer means; `remote` reads the events.
"""

import base64
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from threading import Event, Lock, Timer
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from neva.errors import EngineError

CONNECT_S = 10.0
"""For a connection, and for the list of models, which no server has to think about."""
TIMEOUT_S = 600.0
PATIENCE_S = 600.0
REFUSALS = frozenset((400, 413, 422))  # of this request, however often it is sent
DONE: Mapping[str, Any] = {}
"""The event that says that the answer is whole."""


class Told(EngineError):
    """The server answered with another status than 200; after `wait` seconds it may be free."""

    def __init__(self, code: int, words: str, wait: float = 1.0) -> None:
        super().__init__(f"the server answered {code}: {words}")
        self.code, self.words, self.wait = code, words, wait


class Line:
    """What one request holds open, so that another thread can hang up on a silent server."""

    def __init__(self) -> None:
        self.cut = Event()
        self._lock = Lock()
        self._socket: socket.socket | None = None

    def hold(self, opened: socket.socket) -> None:
        """Remember the connection; one that comes after `hang_up` is ended at once."""
        with self._lock:
            self._socket = opened
        if self.cut.is_set():
            self.hang_up()

    def hang_up(self) -> None:
        """End the request: whoever reads its answer reads no more. Safe to call late."""
        self.cut.set()
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


class Server:
    """A server by its address, with or without /v1."""

    def __init__(self, url: str, key: str | None, patience: float = PATIENCE_S) -> None:
        wrong = EngineError(
            f"{url.rpartition('@')[2]!r} is not an http address, as http://HOST:PORT is."
        )
        self._patience = patience
        if key is not None and not (key.isascii() and key.isprintable()):
            raise EngineError("the key of the server has letters that no HTTP header may have.")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            self._port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise wrong
        self._parts = parts
        self._base = parts.path.rstrip("/").removesuffix("/v1") + "/v1"
        self._authorization = f"Bearer {key}" if key else basic(parts)
        self.place = parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{self.place}{parts.path}"

    def serves(self, name: str, seconds: float) -> bool:
        """Whether it answers in time and still has the model; a busy one (429) has."""
        line = Line()
        alarm = Timer(seconds, line.hang_up)  # a server that drips is cut off, too
        alarm.daemon = True
        alarm.start()
        try:
            connection, answer = self._send("GET", "/models", line, wait=seconds)
            with closing(connection), closing(answer):
                listed = json.loads(answer.read())["data"]
                return any(entry["id"] == name for entry in listed)
        except Told as error:
            return error.code == 429
        except Exception:  # whatever it says, it is no list of models
            return False
        finally:
            alarm.cancel()

    def models(self) -> list[dict[str, Any]]:
        """What is served, at least one; EngineError in one sentence with the address."""
        try:
            connection, answer = self._send("GET", "/models", Line(), wait=CONNECT_S)
            with closing(connection), closing(answer):
                told = json.loads(answer.read())
        except Told as error:
            if error.code in (401, 403):
                raise EngineError(f"{self.url}: {error} (does it want another key?)") from None
            if error.code == 429 or error.code >= 500:
                raise EngineError(f"{self.url}: {error}; try again later.") from None
            raise self._stranger(str(error)) from None
        except ValueError:
            raise self._stranger(f"{self._base}/models is not JSON") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._stranger(str(error)[:200] or type(error).__name__) from None
        listed = (told.get("data") or []) if isinstance(told, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise self._stranger(f"{self._base}/models is no list of models")
        if not listed:
            raise EngineError(f"{self.url} serves no model.")
        return listed

    def events(self, body: bytes, line: Line) -> Iterator[Mapping[str, Any]]:
        """The events of a streamed answer, DONE last where the server says so."""
        connection, answer = self._accepted(body, line)
        with closing(connection), closing(answer):
            for raw in answer:
                name, _, data = raw.decode().strip().partition(":")
                if name != "data" or not data.strip():
                    continue
                if data.strip() == "[DONE]":
                    yield DONE
                    return
                event = json.loads(data)
                if not isinstance(event, dict):
                    raise EngineError(f"an event of the answer is no object: {data.strip()[:200]}")
                yield event

    def _stranger(self, why: str) -> EngineError:
        return EngineError(
            f"no OpenAI-compatible server at {self.url} ({why}); "
            "start one, such as `neva serve`, or correct the address."
        )

    def _accepted(
        self, body: bytes, line: Line
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send, and again for as long as the server is busy, up to `patience` seconds."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._send("POST", "/chat/completions", line, body)
            except Told as busy:
                late = time.monotonic() + busy.wait > until
                if busy.code != 429 or late or line.cut.wait(busy.wait):
                    raise

    def _connected(self, line: Line, wait: float) -> http.client.HTTPConnection:
        """A connection that `line` holds before it is one: handshakes can be silent, too."""
        host, secure = self._parts.hostname or "", self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(host, self._port)
        opened = socket.create_connection((connection.host, connection.port), min(wait, CONNECT_S))
        try:
            line.hold(opened)
            if secure:
                context = ssl.create_default_context()
                opened = context.wrap_socket(opened, server_hostname=host)
                line.hold(opened)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.settimeout(wait)
        except BaseException:
            opened.close()
            raise
        connection.sock = opened
        return connection

    def _send(
        self,
        method: str,
        path: str,
        line: Line,
        body: bytes | None = None,
        wait: float = TIMEOUT_S,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """One request; the caller closes both. Told unless the status is 200.

        A server may refuse a body before it has read it: what it said is read all the same.
        """
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if method == "GET":
            headers = {"Accept": "application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        connection = self._connected(line, wait)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._base + path, body, headers)
            answer = connection.getresponse()
            if answer.status == 200:
                return connection, answer
            with closing(answer):
                words = said_raw(answer.read(65536), answer.reason)
                raise Told(answer.status, words, retry_after(answer.getheader("Retry-After")))
        except BaseException:
            connection.close()
            raise


def basic(parts: SplitResult) -> str | None:
    """Name and password of an address, as the header that browsers and curl make of them."""
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def retry_after(header: str | None) -> float:
    """Seconds to wait, between 0.1 and 60; 1 where the server says nothing that is a number."""
    try:
        return min(max(float(header or 1), 0.1), 60.0)
    except ValueError:
        return 1.0


def said_raw(body: bytes, reason: str) -> str:
    """The message of an error's body, or its beginning; `reason` where that is a web page."""
    try:
        return said(json.loads(body))
    except ValueError:
        text = " ".join(body[:200].decode(errors="replace").split())
        return reason if not text or text.startswith("<") else text


def said(error: Any) -> str:
    """The sentence in an error object of any dialect."""
    found = error.get("error", error) if isinstance(error, dict) else error
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found.get("title") or found
    return str(found)[:500]


def refused(error: Any) -> bool:
    """Whether an error in the middle of a stream is the request's own."""
    if not isinstance(error, dict):
        return False
    return error.get("code") in REFUSALS or error.get("type") == "invalid_request_error"
