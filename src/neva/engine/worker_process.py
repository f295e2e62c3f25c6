"""The parent's view of one engine process: start it, talk to it, notice its end.

It is started with `subprocess`, not `multiprocessing`: spawn would import the caller's main module
a second time, which costs a CLI half its start-up and breaks scripts without a main guard.
"""

import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import neva
from neva import errors
from neva.engine.messages import Ready, Refused, Setup, Spoken, Want
from neva.errors import EngineError, NevaError

_log = logging.getLogger("neva.engine")


class WorkerProcess:
    """One process. `heard` gets Spoken and Want, `died` is called once when it has ended.

    Both are called from this object's reading thread. `setup` is called while the process is
    already importing.
    """

    def __init__(
        self,
        setup: Callable[[], Setup],
        heard: Callable[[Spoken | Want], None],
        died: Callable[["WorkerProcess"], None],
    ) -> None:
        self._heard, self._died = heard, died
        self._sending = Lock()
        self._settled = Event()  # ready, refused or dead
        self.folder: str | None = None
        self.refusal: NevaError | None = None
        self.ended = False
        self._process, self._wire = _start()
        try:
            self.send(setup())
        except BaseException:
            self.close()
            raise
        Thread(target=self._listen, name="neva-engine", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until it has loaded; NevaError if it could not."""
        self._settled.wait()
        if self.refusal is not None:
            raise self.refusal

    def send(self, message: Any) -> None:
        """Send a message; one to a dead process is dropped (`died` tells of it)."""
        with self._sending, contextlib.suppress(OSError):
            self._wire.send(message)

    def close(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = self._wire.recv()
                if isinstance(message, Ready):
                    self.folder = message.folder
                    self._settled.set()
                elif isinstance(message, Refused):
                    self.refusal = _refusal(message)
                else:
                    self._heard(message)
        self._process.kill()
        code = self._process.wait()
        if self.folder is None and self.refusal is None:
            self.refusal = EngineError(
                f"the engine's process ended while it was starting (exit code {code}): "
                "there may be too little memory; try a smaller model"
            )
        self.ended = True
        self._settled.set()
        self._died(self)


def _refusal(message: Refused) -> NevaError:
    """The error as it was raised over there, if it was one of ours."""
    kind = getattr(errors, message.kind, None)
    if isinstance(kind, type) and issubclass(kind, NevaError):
        return kind(message.sentence)
    return EngineError(f"the engine could not start: {message.kind}: {message.sentence}")


def _start() -> tuple["subprocess.Popen[bytes]", Connection]:
    """A fresh interpreter with one end of a socket pair. It finds neva where this one did.

    -P: whatever lies in the working directory is not imported.
    """
    ours, theirs = socket.socketpair()
    package = str(Path(neva.__file__).parent.parent)
    code = (
        f"import sys; sys.path.append({package!r})\n"
        f"from neva.engine.worker import main; main({theirs.fileno()})"
    )
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return process, Connection(ours.detach())
