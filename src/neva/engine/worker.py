"""The engine's own process: `main(FD)`, FD a socket to its parent (see worker_process.py).

genai's `step` holds Python's lock and a crash in it takes the process along, so the server must
not live in the same one. Here the main thread does everything but encode images: between two steps
it reads the socket, so that no other thread has to wait for the lock on a request's way. A request
whose images are known begins at once, also while other requests' images are being encoded.
When the parent is gone, the socket ends and this process with it.
"""

import os
import select
import signal
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from neva.engine.messages import (
    Add,
    Cancel,
    Counts,
    Failed,
    Pixels,
    Ready,
    Refused,
    Setup,
    Spoken,
    Want,
)

GONE = (EOFError, BrokenPipeError, ConnectionResetError)


def main(descriptor: int) -> None:
    """Serve requests until the socket ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent handles these, and answers may
        signal.signal(number, signal.SIG_IGN)  # still have to be finished
    wire = Connection(descriptor)
    import openvino_genai  # noqa: F401  slow: do it while the parent still prepares the setup

    try:
        setup: Setup = wire.recv()
        try:
            worker, folder = _load(wire, setup)
        except Exception as error:
            wire.send(Refused(type(error).__name__, str(error)))
            return
        wire.send(Ready(folder))
        worker.run()
    except GONE:
        os._exit(0)  # whatever the other thread is doing


def _load(wire: Connection, setup: Setup) -> "tuple[Worker, str]":
    """Everything loaded, and the graphs' directory: built now if the parent found none."""
    from neva.engine.graphs import Export, export

    if setup.folder is not None:
        made = Export(Path(setup.folder))
    else:
        from neva.model.checkpoint import Checkpoint

        made = export(Checkpoint.open(Path(setup.checkpoint), setup.template), setup.weights)
    from neva.engine.embedder import Embedder
    from neva.engine.eyes import Eyes
    from neva.engine.paged import PagedModel

    eyes = Eyes(made, setup)
    return Worker(wire, PagedModel(made, setup), Embedder(made, setup), eyes), str(made.folder)


@dataclass
class _Blind:
    """A request some of whose images are still to be encoded: None in `images`."""

    request: Add
    images: dict[str, Any] = field(repr=False)


class Worker:
    """What the main thread does."""

    def __init__(self, wire: Connection, model: Any, embedder: Any, eyes: Any) -> None:
        self._wire, self._model, self._embedder, self._eyes = wire, model, embedder, eyes
        self._blind: dict[int, _Blind] = {}
        self._poll = select.poll()
        for descriptor in (wire.fileno(), eyes.descriptor):
            self._poll.register(descriptor, select.POLLIN)

    def run(self) -> None:
        """Step while there are requests, else wait. An exception in a step is fatal."""
        while True:
            self._listen(None if not self._model.busy else 0)
            if self._model.busy:
                self._tell(*self._model.step())

    def _listen(self, patience: int | None) -> None:
        """Take all that has come; wait for the first of it if `patience` is None."""
        while ready := self._poll.poll(patience):
            for descriptor, _ in ready:
                if descriptor == self._wire.fileno():
                    self._heard(self._wire.recv())
                else:
                    self._seen()
            patience = 0

    def _heard(self, message: Add | Pixels | Cancel) -> None:
        if isinstance(message, Add):
            self._add(message)
        elif isinstance(message, Pixels):
            for name, square in message.squares.items():
                self._eyes.look(name, square)
        else:
            self._cancel(message.key)

    def _add(self, request: Add) -> None:
        """Begin, or ask for the pixels of what was never seen and nobody else has asked for."""
        images = self._embedder.find(request)
        unseen = [name for name, features in images.items() if features is None]
        if not unseen:
            self._begin(request, images)
            return
        self._blind[request.key] = _Blind(request, images)
        wanted = tuple(name for name in unseen if not self._eyes.looks_for(name))
        for name in wanted:
            self._eyes.expect(name)
        if wanted:
            self._wire.send(Want(request.key, wanted))

    def _cancel(self, key: int) -> None:
        """Stop a request that runs, or that waits for its images."""
        waiting = self._blind.pop(key, None)
        if waiting is None:
            self._model.cancel(key)
            return
        for name in (name for name, features in waiting.images.items() if features is None):
            others = (k for k, b in self._blind.items() if b.images.get(name, 0) is None)
            other = next(others, None)
            if other is None:
                self._eyes.forget(name)
            else:  # the one who left may not have sent it
                self._wire.send(Want(other, (name,)))

    def _seen(self) -> None:
        """Images were encoded: requests that have all of theirs begin."""
        for name, features in self._eyes.seen():
            if not isinstance(features, Exception):
                self._embedder.keep(name, features)
            for key, blind in list(self._blind.items()):
                if blind.images.get(name, features) is not None:
                    continue
                if isinstance(features, Exception):
                    del self._blind[key]
                    self._fail(key, features)
                    continue
                blind.images[name] = features
                if all(image is not None for image in blind.images.values()):
                    del self._blind[key]
                    self._begin(blind.request, blind.images)

    def _begin(self, request: Add, images: dict[str, Any]) -> None:
        try:
            self._model.add(request, self._embedder.embed(request, images))
        except Exception as error:
            self._fail(request.key, error)

    def _fail(self, key: int, error: Exception) -> None:
        """Tell the parent that this request, and only it, failed."""
        self._tell(Failed(key, f"the engine refused the request: {error}"))

    def _tell(self, *news: Any) -> None:
        if news:
            self._wire.send(Spoken(news, self._counts()))

    def _counts(self) -> Counts:
        embedder = self._embedder
        share = self._model.cache_share
        return Counts(embedder.asked, embedder.known, embedder.nbytes, share)
