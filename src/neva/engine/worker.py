"""The engine's own process: `main(FD)`, FD a socket to its parent (see worker_process.py).

genai's `step` holds Python's lock and a crash in it takes the process along, so the server must
not live in the same one. Here the main thread does everything but encode images: between two steps
it reads the socket, so that no other thread has to wait for the lock on a request's way. A request
whose images are known begins at once, also while other requests' images are being encoded, and no
request waits for another's grammar.
When the parent is gone, the socket ends and this process with it.
"""

import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from neva.engine.confining import Confining
from neva.engine.messages import (
    Add,
    Cancel,
    Counts,
    Failed,
    Pixels,
    Ready,
    Refused,
    RequestError,
    Setup,
    Spoken,
    Want,
)

GONE = (EOFError, BrokenPipeError, ConnectionResetError)


def main(descriptor: int) -> None:
    """Serve requests until the socket ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent handles these, and answers may
        signal.signal(number, signal.SIG_IGN)  # still have to be finished
    os.environ.setdefault("HOME", "/")  # OpenVINO cannot be imported where there is none
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
    from neva.engine.grammars import Grammars
    from neva.engine.paged import PagedModel

    eyes, model = Eyes(made, setup), PagedModel(made, setup)
    grammars = Grammars(model.tokenizer, made.language)
    worker = Worker(wire, model, Embedder(made, setup), eyes, grammars, setup.grammar_seconds)
    return worker, str(made.folder)


@dataclass
class _Blind:
    """A request some of whose images are still to be encoded: None in `images`."""

    request: Add
    images: dict[str, Any] = field(repr=False)


class Worker:
    """What the main thread does."""

    def __init__(
        self, wire: Connection, model: Any, embedder: Any, eyes: Any, grammars: Any, seconds: float
    ) -> None:
        """`seconds`: the longest that a grammar may take to be compiled."""
        self._wire, self._model, self._embedder, self._eyes = wire, model, embedder, eyes
        self._confining = Confining(grammars, self._join, seconds)
        self._blind: dict[int, _Blind] = {}
        self._poll = select.poll()
        self._bells: dict[int, Callable[[], None]] = {
            wire.fileno(): lambda: self._heard(wire.recv()),
            eyes.descriptor: self._seen,
            grammars.descriptor: lambda: self._tell(*self._confining.heard()),
        }
        for descriptor in self._bells:
            self._poll.register(descriptor, select.POLLIN)

    def run(self) -> None:
        """Step while there are requests, else wait. An exception in a step is fatal."""
        while True:
            busy = self._model.busy or self._confining.unsettled
            self._listen(0 if busy else self._confining.patience)
            self._tell(*self._confining.late())
            if busy:
                self._step()

    def _step(self) -> None:
        news = list(self._model.step())
        self._tell(*news)
        self._confining.stepped((one.key for one in news), self._model.live)

    def _listen(self, patience: int | None) -> None:
        """Take all that has come; wait so many milliseconds, or (None) for the first of it."""
        while ready := self._poll.poll(patience):
            for descriptor, _ in ready:
                self._bells[descriptor]()
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
        self._wire.send(Want(request.key, wanted, len(unseen)))

    def _cancel(self, key: int) -> None:
        """Stop a request that runs, or that waits for its images or its grammar."""
        waiting = self._blind.pop(key, None)
        if waiting is None:
            if not self._confining.cancel(key):
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
        """All images are there; a grammar may still have to be compiled."""
        if request.sampling.grammar is None:
            self._join(request, images)
        else:
            self._confining.add(request, images)

    def _join(self, request: Add, images: dict[str, Any]) -> bool:
        """Give the request to the model; False if it failed, and that is told."""
        try:
            self._model.add(request, self._embedder.embed(request, images))
        except Exception as error:
            self._fail(request.key, error)
            return False
        return True

    def _fail(self, key: int, error: Exception) -> None:
        """Tell the parent that this request, and only it, failed.

        A library's words may name files and addresses: they stay in this process.
        """
        why = str(error) if isinstance(error, RequestError) else type(error).__name__
        self._tell(Failed(key, f"the engine refused the request: {why}"))

    def _tell(self, *news: Any) -> None:
        if news:
            self._wire.send(Spoken(news, self._counts()))

    def _counts(self) -> Counts:
        embedder = self._embedder
        share = self._model.cache_share
        return Counts(embedder.asked, embedder.known, embedder.nbytes, share)
