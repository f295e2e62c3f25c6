"""Images by URL, only from hosts that the operator named, and never from inside a network.

A name is resolved once, every address it has must be public, and the connection goes to that very
address: a name that changes between check and use gains nothing. Redirects are checked like new
URLs. Size and time are bounded. Runs in fetching threads; off unless `images_from` is set.
"""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from queue import Empty, SimpleQueue
from urllib.parse import urljoin, urlsplit

from neva.errors import ImageError
from neva.server.public import is_public

Resolve = Callable[[str, int], list[str]]

MAX_URL = 2048
HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
"""A plain DNS name. Numbers, brackets, user names and odd letters are not names of hosts here."""
PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Target:
    """A URL that passed the checks, and the address to connect to."""

    scheme: str
    host: str
    path: str
    address: str


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def allowed(host: str, hosts: Sequence[str]) -> bool:
    """Whether `host` is one of `hosts`, or under one that is written ".example.org"."""
    names = [name.lower() for name in hosts]
    return any(host == name or (name[:1] == "." and host.endswith(name)) for name in names)


def checked(url: str, hosts: Sequence[str], find: Resolve) -> Target:
    """The target of a URL; ImageError if it may not be fetched, the same for every reason."""
    refusal = ImageError(
        "this URL may not be fetched; send the image as data:image/...;base64,... or from an "
        "allowed host"
    )
    if len(url) > MAX_URL or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise refusal
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refusal from None
    host = (parts.hostname or "").lower()
    plain = parts.scheme in PORTS and port in (None, PORTS.get(parts.scheme))
    if not plain or "@" in parts.netloc or not HOST.fullmatch(host) or not allowed(host, hosts):
        raise refusal
    try:
        addresses = find(host, PORTS[parts.scheme])
    except (OSError, UnicodeError):
        raise ImageError("the image's host cannot be found") from None
    if not addresses or not all(map(is_public, addresses)):
        raise refusal
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, path, addresses[0])


class _PinnedHTTPS(HTTPSConnection):
    """Connects to one address, and has the certificate checked for the name."""

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target.host, timeout=timeout, context=ssl.create_default_context())
        self._address = target.address
        self._tls = ssl.create_default_context()

    def connect(self) -> None:
        raw = socket.create_connection((self._address, 443), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(
                raw, server_hostname=self.host, do_handshake_on_connect=False
            )
        except BaseException:
            raw.close()
            raise
        self.sock.do_handshake()  # with `sock` known, so that the alarm ends it


def connect(target: Target, timeout: float) -> HTTPConnection:
    """A connection to the checked address."""
    if target.scheme == "https":
        return _PinnedHTTPS(target, timeout)
    return HTTPConnection(target.address, 80, timeout=timeout)


@dataclass(frozen=True)
class Fetcher:
    """Fetches images from `hosts`. The two functions are the network, given so that tests can."""

    hosts: tuple[str, ...]
    max_bytes: int = 16 * 1024 * 1024
    """Of one image."""
    together: int = 32 * 1024 * 1024
    """Bytes of all images of one request, as many as a body may have."""
    seconds: float = 10.0
    """For all images of one request."""
    redirects: int = 3
    find: Resolve = resolve
    connect: Callable[[Target, float], HTTPConnection] = connect

    def fetch_all(self, urls: Sequence[str]) -> dict[str, bytes | ImageError]:
        """What is behind `urls`, all within `seconds`; ends at the first that cannot be had."""
        deadline, room = time.monotonic() + self.seconds, self.together
        found: dict[str, bytes | ImageError] = {}
        for url in dict.fromkeys(urls):
            try:
                data = self.fetch(url, deadline)
                room -= len(data)
                if room < 0:
                    raise ImageError(f"the URLs' images have more than {self.together:,} bytes")
                found[url] = data
            except ImageError as error:
                found[url] = error
                break
        return found

    def fetch(self, url: str, deadline: float | None = None) -> bytes:
        """The bytes behind `url`; ImageError says no more than the sender may know."""
        deadline = time.monotonic() + self.seconds if deadline is None else deadline

        def find(host: str, port: int) -> list[str]:
            return in_time(lambda: self.find(host, port), deadline)

        for _ in range(self.redirects + 1):
            target = checked(url, self.hosts, find)
            found = self._get(target, deadline)
            if isinstance(found, bytes):
                return found
            url = urljoin(f"{target.scheme}://{target.host}{target.path}", found)
        raise ImageError(f"the image's URL redirects more than {self.redirects} times")

    def _get(self, target: Target, deadline: float) -> bytes | str:
        """The body, or where it redirects to."""
        connection = self.connect(target, _left(deadline))
        alarm = threading.Timer(_left(deadline), _hang_up, [connection])  # for dripping headers
        alarm.start()
        try:
            headers = {"Host": target.host, "User-Agent": "neva", "Accept": "image/*"}
            connection.request("GET", target.path, headers=headers)
            response = connection.getresponse()
            if response.status in REDIRECTS:
                return response.headers.get("location", "")
            if response.status != 200:
                raise ImageError(f"the image's host answered with {response.status}")
            return self._body(response, deadline)
        except (OSError, HTTPException, ValueError):
            raise ImageError("the image could not be fetched from its host") from None
        finally:
            alarm.cancel()
            connection.close()

    def _body(self, response: HTTPResponse, deadline: float) -> bytes:
        body = bytearray()
        while piece := response.read1(65536):
            body += piece
            _left(deadline)
            if len(body) > self.max_bytes:
                raise ImageError(f"the URL's image is larger than {self.max_bytes:,} bytes")
        return bytes(body)


def in_time(look_up: Callable[[], list[str]], deadline: float) -> list[str]:
    """The addresses, or TimeoutError: the system's resolver itself may wait for minutes."""
    found: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def run() -> None:
        try:
            found.put(look_up())
        except Exception as error:
            found.put(error)

    threading.Thread(target=run, name="neva-resolver", daemon=True).start()
    try:
        addresses = found.get(timeout=_left(deadline))
    except Empty:
        raise TimeoutError from None
    if isinstance(addresses, Exception):
        raise addresses
    return addresses


def _hang_up(connection: HTTPConnection) -> None:
    """End a connection from another thread; what waits on it gets an error."""
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _left(deadline: float) -> float:
    """Seconds left; ImageError if none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise ImageError("fetching the image took too long")
    return left
