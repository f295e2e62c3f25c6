"""The engine's own process: `main(FD)`, FD a socket to its parent (see worker_process.py).

genai's `step` holds Python's lock and a crash in it takes the process along, so the server must
not live in the same one. Here the main thread does every add, step and cancel; a second thread
reads the socket; a third encodes images while the first generates. When the parent is gone, the
socket ends and this process with it.
"""

import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from neva.engine.messages import Add, Cancel, Failed, Ready, Refused, Setup

Job = Callable[[], None]


def main(descriptor: int) -> None:
    """Serve requests until the socket ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent handles these, and answers may
        signal.signal(number, signal.SIG_IGN)  # still have to be finished
    wire = Connection(descriptor)
    import openvino_genai  # noqa: F401  slow: do it while the parent still prepares the setup

    setup: Setup = wire.recv()
    inbox: SimpleQueue[Job] = SimpleQueue()
    to_embed: SimpleQueue[Add] = SimpleQueue()
    worker = _Worker(wire, inbox)
    Thread(target=_listen, args=(wire, worker, inbox, to_embed), daemon=True).start()
    try:
        made = _graphs(setup)
        from neva.engine.embedder import Embedder
        from neva.engine.paged import PagedModel

        worker.model, embedder = PagedModel(made, setup), Embedder(made, setup)
    except Exception as error:
        wire.send(Refused(type(error).__name__, str(error)))
        return
    Thread(target=_embed, args=(embedder, worker, inbox, to_embed), daemon=True).start()
    wire.send(Ready(str(made.folder)))
    worker.run()


def _graphs(setup: Setup) -> Any:
    """The graphs' directory, built now if the parent found none."""
    from neva.engine.graphs import Export, export
    from neva.model.checkpoint import Checkpoint

    if setup.folder is not None:
        return Export(Path(setup.folder))
    return export(Checkpoint.open(Path(setup.checkpoint), setup.template), setup.weights)


class _Worker:
    """What the main thread does: run jobs from the inbox between steps."""

    def __init__(self, wire: Connection, inbox: "SimpleQueue[Job]") -> None:
        self._wire = wire
        self._inbox = inbox
        self._expected: set[int] = set()
        self.model: Any = None

    def run(self) -> None:
        """Step while there are requests, else wait for a job. An exception in a step is fatal."""
        while True:
            while not self._inbox.empty() or not self.model.busy:
                self._inbox.get()()
            for message in self.model.step():
                self._wire.send(message)

    def expect(self, key: int) -> None:
        """A request is being embedded."""
        self._expected.add(key)

    def add(self, request: Add, embeds: Any) -> None:
        """Begin a request, unless it was cancelled meanwhile."""
        if request.key not in self._expected:
            return
        self._expected.discard(request.key)
        try:
            self.model.add(request, embeds)
        except Exception as error:
            self.fail(request.key, error)

    def cancel(self, key: int) -> None:
        """Stop a request that runs, or that waits to be embedded."""
        self._expected.discard(key)
        self.model.cancel(key)

    def fail(self, key: int, error: Exception) -> None:
        """Tell the parent that this request, and only it, failed."""
        self._expected.discard(key)
        self._wire.send(Failed(key, f"the engine refused the request: {error}"))


def _listen(
    wire: Connection, worker: _Worker, inbox: "SimpleQueue[Job]", to_embed: "SimpleQueue[Add]"
) -> None:
    """Read the socket; when it ends, so does the process, whatever it is doing."""
    try:
        while True:
            message = wire.recv()
            if isinstance(message, Add):
                inbox.put(lambda key=message.key: worker.expect(key))  # type: ignore[misc]
                to_embed.put(message)
            elif isinstance(message, Cancel):
                inbox.put(lambda key=message.key: worker.cancel(key))  # type: ignore[misc]
    except (EOFError, OSError):
        os._exit(0)


def _embed(
    embedder: Any, worker: _Worker, inbox: "SimpleQueue[Job]", to_embed: "SimpleQueue[Add]"
) -> None:
    """Embed prompts in the order they came and hand them to the main thread."""

    def job(request: Add) -> Job:
        try:
            embeds = embedder.embed(request)
        except Exception as error:
            return lambda error=error: worker.fail(request.key, error)  # type: ignore[misc]
        return lambda: worker.add(request, embeds)

    while True:
        inbox.put(job(to_embed.get()))
