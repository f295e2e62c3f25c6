"""A server that says what a test wants, byte by byte, as servers that die or differ do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]
MODELS = json.dumps({"data": [{"id": "m"}]}).encode()


def event(text: str = "", finish: str | None = None) -> bytes:
    """One event with a piece of answer."""
    choice = {"delta": {"content": text} if text else {}, "finish_reason": finish}
    return data({"choices": [choice]})


def data(told: Any) -> bytes:
    return b"data: " + json.dumps(told).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Listening(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def fake(
    answer: Answer, models: bytes = MODELS, status: int = 200, chunked: bool = False
) -> Iterator[str]:
    """The address of a server that answers /v1/models with `models`, and questions by `answer`.

    With `chunked` the answer comes in chunks and lacks the last, as of a server that was killed.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            self.say(status, models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.say(*answer(body), chunked)

        def say(self, code: int, said: bytes, cut: bool = False) -> None:
            self.close_connection = True
            self.send_response(code)
            self.send_header(
                *(("Transfer-Encoding", "chunked") if cut else ("Connection", "close"))
            )
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(said), said) if cut else said)

    server = Listening(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
