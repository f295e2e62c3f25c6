"""Runs an app on a socket, with a drained end on SIGTERM."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from neva.server.patience import PatientProtocol

log = logging.getLogger("neva.server")

DRAIN_SECONDS = 30
LAST_WORDS_SECONDS = 3
"""For so long before the end, answers that are still made end with what they have."""


class Server(uvicorn.Server):
    """uvicorn's server, which ends with exit code 0 when it was asked to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first SIGTERM or SIGINT drains, the second ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's; the server is ended by `should_exit`
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._asked_to_end)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way; what cannot be is ended properly, not torn off."""
        desk = getattr(getattr(self.config.app, "state", None), "desk", None)
        if desk is None:
            return await super().shutdown(sockets)
        seconds = self.config.timeout_graceful_shutdown or DRAIN_SECONDS
        under_way = {"running": desk.admission.running, "waiting": desk.admission.waiting}
        log.info("draining", extra={**under_way, "seconds": seconds})
        last = max(seconds - LAST_WORDS_SECONDS, seconds / 2)
        alarm = asyncio.get_running_loop().call_later(last, desk.hurry)
        try:
            await super().shutdown(sockets)
        finally:
            alarm.cancel()
            log.info("ended")

    def _asked_to_end(self) -> None:
        self.force_exit, self.should_exit = self.should_exit, True


def server_for(app: FastAPI) -> Server:
    """The server of `app`, not yet running."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,  # believed from this machine only, so a proxy's https is known
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan="on",
    )
    return Server(config)


def listen(server: Server, bound: socket.socket, began: Callable[[], None]) -> None:
    """Serve until asked to end; `began` is called when the socket is being served."""

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            began()
        await serving

    loop = server.config.get_loop_factory()  # uvloop: less CPU for each chunk
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve())
