"""Where a server may listen: a bound socket, or one clear sentence.

Apart from `listen`, since the web framework takes half a second to import, and the engine can be
loading by then.
"""

import errno
import socket

from neva.errors import NevaError
from neva.server.auth import is_loopback
from neva.server.settings import Settings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


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
