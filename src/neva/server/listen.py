"""Runs an app on a socket: one clear sentence for a port in use, and a drained end on SIGTERM."""

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from neva.errors import NevaError
from neva.server.auth import is_loopback
from neva.server.patience import PatientProtocol
from neva.server.settings import Settings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
DRAIN_SECONDS = 30


def check_exposure(settings: Settings) -> None:
    """NevaError when people outside could reach the server and nothing keeps strangers out."""
    if not settings.closed and not settings.tls_in_front and not is_loopback(settings.host):
        raise NevaError(
            f"refusing to listen on {settings.host} without API keys: anybody could use the "
            "server; give --api-key-file or set NEVA_API_KEY, or listen on 127.0.0.1, or say "
            "--tls-in-front if a proxy with TLS in front decides who may pass"
        )


def in_the_clear(settings: Settings) -> bool:
    """Whether keys and pictures travel to us readable to all on the way, as far as we know."""
    return not settings.tls_in_front and not is_loopback(settings.host)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; NevaError says what is wrong with the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NevaError(
                f"port {port} on {host} is in use; stop what listens there or choose another "
                "with --port"
            ) from None
        if error.errno == errno.EACCES:
            raise NevaError(f"port {port} needs privileges; choose one above 1023") from None
        raise NevaError(f"cannot listen on {host}: {error.strerror or error}") from None


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
