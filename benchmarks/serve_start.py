"""A peer that is up and answers: its server over HTTP, or the raw engine over a pipe."""

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from serve_client import Answer, HttpAsker, Place
from serve_load import Asker, body, picture
from serve_peers import Peer, Start
from serve_process import Running, clean, running


@contextmanager
def served(peer: Peer, start: Start, patience: float) -> Iterator[tuple[HttpAsker, Running]]:
    """The server of a peer while the context lasts, asked until it answers."""
    log = start.work / f"{start.checkpoint.name}-{peer.name.replace(' ', '-')}.log"
    with running(peer.command(start), log, peer.environment, patience) as server:
        yield _first_answer(peer, start, server), server


@contextmanager
def alive(peer: Peer, start: Start, patience: float) -> Iterator[Asker]:
    """Whatever a peer is, up while the context lasts."""
    if peer.raw is None:
        with served(peer, start, patience) as (asker, _):
            yield asker
        return
    command = [*peer.command(start), peer.raw]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean()
    ) as process:
        asker = PipeAsker(process)
        asker.ask([body(picture(1), ["Hi."], 2)], 1, patience)
        yield asker
        assert process.stdin is not None
        process.stdin.close()  # its loop ends with its input


class PipeAsker:
    """Asks `serve_raw.py` in a process of its own; see `Asker` in serve_load.py."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(
        self, bodies: Sequence[dict[str, object]], clients: int, seconds: float
    ) -> list[Answer]:
        """One line there, one line back; times are that process's own."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"bodies": list(bodies), "clients": clients, "seconds": seconds}
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
            with contextlib.suppress(BrokenPipeError):  # what was not sent is tried again here
                self._process.stdin.close()
        if not line:
            raise RuntimeError(f"the raw engine ended with code {self._process.wait()}")
        return [Answer(**answer) for answer in json.loads(line)]


def _first_answer(peer: Peer, start: Start, server: Running) -> HttpAsker:
    """Ask until two tokens about a picture come: that is what "loaded" means for all."""
    hello = body(picture(1), ["Hi."], 2)
    said = "nothing"
    while True:
        server.check()
        try:
            model = peer.model(start) if peer.model else _model(start.port)
            asker = peer.asker(Place(start.port, model))
            (answer,) = asker.ask([hello], 1, server.start_seconds)
            if answer.error is None and answer.stamps:
                return asker
            said = answer.error or "no text"
            if "status 4" in said:
                raise RuntimeError(f"it refuses the first request: {said}")
        except (OSError, http.client.HTTPException, KeyError, IndexError, ValueError) as error:
            said = str(error)
        time.sleep(0.05)


def _model(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/v1/models")
    return str(json.loads(connection.getresponse().read())["data"][0]["id"])
