"""A limit to how long a client may keep a connection waiting: with its words, or with its ears.

uvicorn waits for a request's head, and for a client to read, for ever; a few hundred such clients
would use up the server's connections and its memory. The body's limit is the porter's.
"""

import asyncio
import contextlib
import socket
import sys
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS = 20.0
SEND_SECONDS = 30.0
CONNECTIONS = 1024
UNSENT_BYTES = 128 * 1024
"""What the system keeps of what the client cannot take yet; it would keep megabytes."""
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)


def connections() -> int:
    """Most connections; half of what the system lets us open, as each may need a file beside."""
    if sys.platform == "win32":
        return CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files < 0 else min(CONNECTIONS, max(1, files // 2))


def hold_little(transport: Any) -> None:
    """Pass on to the transport only what its client takes, so that both we and the kernel see it.

    Writing is then paused whenever anything is left, and goes on when all of it has been taken.
    """
    transport.set_write_buffer_limits(high=0)
    plug = transport.get_extra_info("socket")
    if plug is not None and _NOTSENT_LOWAT is not None:
        with contextlib.suppress(OSError):  # no TCP
            plug.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
    """uvicorn's protocol, which hangs up on clients that keep it waiting too long.

    That is HEAD_SECONDS for a request's head, and the app's `state.send_seconds` for taking what
    was written. When all connections are in use, a new one takes the place of the one that has kept
    us waiting longest.
    """

    head_seconds = HEAD_SECONDS
    most = staticmethod(connections)

    def connection_made(self, transport: Any) -> None:
        """A client has come: it must say something."""
        super().connection_made(transport)
        hold_little(transport)
        self._alarm: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._answering: Any = None
        self._left = False
        self._moved = self.loop.time()
        self._make_room()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """It said something: is it a whole head?"""
        self._moved = self.loop.time()
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def pause_writing(self) -> None:
        """The client has not taken all: it must."""
        super().pause_writing()
        self._moved = self.loop.time()
        if self._unread is None:
            state = getattr(self.config.app, "state", None)
            seconds = getattr(state, "send_seconds", SEND_SECONDS)
            self._unread = self.loop.call_later(seconds, self._leave)

    def resume_writing(self) -> None:
        """It took all."""
        self._moved = self.loop.time()
        self._stop_watching()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """It has its answer, and may ask again."""
        self._moved = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._left = True
        self._stop_waiting()
        self._stop_watching()
        # uvicorn tells the last of several requests that were sent at once, not the one under way
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _keeps_us_waiting(self) -> bool:
        """Is the next thing to come the client's: a request, the rest of it, reading?"""
        cycle = self.cycle
        return bool(
            self.flow.write_paused or cycle is None or cycle.response_complete or cycle.more_body
        )

    def _make_room(self) -> None:
        """Let one go if there are too many: this one where all others are being answered."""
        most = self.most()
        if len(self.connections) <= most:
            return
        here = [one for one in self.connections if not one._left]
        if len(here) > most:
            others = (one for one in here if one is not self and one._keeps_us_waiting)
            min(others, key=lambda one: one._moved, default=self)._leave()

    def _leave(self) -> None:
        """Hang up without a goodbye, which would wait for the client to read what is before it."""
        self._left = True
        self._unread = None
        self.transport.abort()

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait(self) -> None:
        if self._alarm is None:
            self._alarm = self.loop.call_later(self.head_seconds, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _hang_up(self) -> None:
        self._alarm = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
