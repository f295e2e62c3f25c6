"""URLs as images: a corpus of hostile ones is refused, and an allowed one is fetched as checked."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from server_house import png

from neva.errors import ImageError
from neva.server.fetch import Fetcher, Target, allowed, checked, connect
from neva.server.public import is_public

HOSTS = ("images.example.org", ".pictures.example.org")
PUBLIC = "93.184.215.14"
INSIDE = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "192.0.0.1", "192.0.2.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.215.14"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf::1"),
    *("2001:db8::1", "::127.0.0.1", "not an address", ""),
    *("168.63.129.16", "192.0.0.192", "192.0.0.9", "192.0.0.10", "100.100.100.200", "192.88.99.1"),
    *("169.254.170.2", "fec0::1", "feff::1", "fd20:ce::254", "::ffff:168.63.129.16"),
    *("::a83f:8110", "::ffff:0:a83f:8110", "64:ff9b::a83f:8110", "64:ff9b:1::a83f:8110"),
    *("2002:a83f:8110::1", "2001:0:a83f:8110::1", "2001:0:1:2:3:4:579c:7eef", "3fff::1", "5f00::1"),
]
LOCAL_NAMES = [
    *("localhost", "127.0.0.1", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001"),
    *("017700000001", "1.0x0.1"),
    *("0x7f.0.0.1", "0177.0.0.1", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]"),
    *("[0:0:0:0:0:ffff:7f00:1]", "169.254.169.254", "2852039166", "0xa9fea9fe", "[fd00:ec2::254]"),
    *("metadata.google.internal", "metadata", "kubernetes.default.svc", "host.docker.internal"),
    *("①②⑦.⓪.⓪.①", "127。0。0。1", "ｌocalhost", "127.0.0.1.nip.io", "localtest.me"),
    *("spoofed.images.example.org", "images.example.org.evil.example", "evilimages.example.org"),
    *("xn--images-.example.org", "images.example.org.", "images_example.org", "", "-", ".", ".."),
]
SHAPES = [
    "http://{}/a.png",
    "https://{}/a.png",
    "HTTP://{}/a.png",
    "http://images.example.org@{}/a.png",
    "http://user:pass@{}:80/a.png",
    "http://{}\\@images.example.org/a.png",
]
ODD = [
    "http://images.example.org:22/a.png",
    "http://images.example.org:6379/a.png",
    "https://images.example.org:80/a.png",
    "http://images.example.org:99999/a.png",
    "http://images.example.org:0/",
    "http://images.example.org:-1/",
    "http://images.example.org\\.evil.example/a.png",
    "http://images.example.org\r\nX-Header: 1/a.png",
    "http://images.example.org/a b.png",
    "http://images.example.org/\x00",
    "http://images.example.org\t/a.png",
    "http:///images.example.org/a.png",
    "http:images.example.org/a.png",
    "http://[images.example.org]/a.png",
    "http://images.example.org%2f@evil.example/",
    "http://images.example.org%00.evil.example/",
    "http://evil.example#@images.example.org/",
    "http://evil.example?@images.example.org/",
    "ftp://images.example.org/a.png",
    "gopher://images.example.org/a.png",
    "file://images.example.org/etc/passwd",
    "jar:http://images.example.org/a.png!/",
    "https://images.example.org/" + "a" * 3000,
    "http://[::1",
    "http://ｉmages.example.org/a.png",
]
HOSTILE = [
    *(shape.format(name) for shape, name in itertools.product(SHAPES, LOCAL_NAMES)),
    *ODD,
]


def public(host: str, port: int) -> list[str]:
    """Every name is on the open internet: what is refused is refused for its form."""
    return [PUBLIC]


def test_the_corpus_is_large() -> None:
    assert len(set(HOSTILE)) >= 200


@pytest.mark.parametrize("shape", [*SHAPES, "odd"])
def test_hostile_urls_are_refused(shape: str) -> None:
    urls = ODD if shape == "odd" else [shape.format(name) for name in LOCAL_NAMES]
    for url in urls:
        with pytest.raises(ImageError, match="may not be fetched"):
            checked(url, HOSTS, public)


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    assert not is_public(address)
    for addresses in ([address], [PUBLIC, address], [address, PUBLIC]):
        with pytest.raises(ImageError, match="may not be fetched"):
            checked("http://images.example.org/a.png", HOSTS, lambda *_, a=addresses: a)


def test_public_addresses_are_public() -> None:
    assert is_public(PUBLIC) and is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


def test_allowed_hosts() -> None:
    assert allowed("images.example.org", HOSTS)
    assert allowed("a.pictures.example.org", HOSTS)
    assert not allowed("pictures.example.org", HOSTS)
    assert not allowed("example.org", HOSTS)
    target = checked("HTTPS://Images.Example.Org:443/a.png?b=1#c", HOSTS, public)
    assert target == Target("https", "images.example.org", "/a.png?b=1", PUBLIC)


def test_the_connection_goes_to_the_checked_address() -> None:
    target = Target("http", "images.example.org", "/", PUBLIC)
    connection = connect(target, 1)
    assert isinstance(connection, HTTPConnection)
    assert connection.host == PUBLIC


REDIRECTS = {
    "/once": "/a.png",
    "/loop": "/loop",
    "/nowhere": "",
    "/inside": "http://169.254.169.254/",
    "/decimal": "http://2130706433/a.png",
    "/mapped": "http://[::ffff:127.0.0.1]/a.png",
    "/elsewhere": "https://images.example.com/a.png",
    "/port": "http://images.example.org:6379/a.png",
    "/user": "http://ann@images.example.org/a.png",
    "/file": "file:///etc/passwd",
    "/relative": "//localhost/a.png",
}


class Web(BaseHTTPRequestHandler):
    """A small web: pictures, redirects, a flood, a trickle."""

    def do_GET(self) -> None:
        if self.path == "/dripping":
            for _ in range(100):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n"[:1])
                threading.Event().wait(0.02)
            return
        if self.path in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        if self.path == "/a.png":
            self.wfile.write(png())
        elif self.path == "/flood":
            for _ in range(100):
                self.wfile.write(bytes(10_000))
        elif self.path == "/trickle":
            for _ in range(50):
                self.wfile.write(b".")
                self.wfile.flush()
                threading.Event().wait(0.05)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[Fetcher]:
    server = HTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]

    def here(target: Target, timeout: float) -> HTTPConnection:
        assert target.address == PUBLIC
        return HTTPConnection("127.0.0.1", port, timeout=timeout)

    yield Fetcher(HOSTS, max_bytes=100_000, seconds=0.5, find=public, connect=here)
    server.shutdown()
    server.server_close()


def test_fetching(web: Fetcher) -> None:
    assert web.fetch("http://images.example.org/a.png") == png()
    assert web.fetch("http://images.example.org/once") == png()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/inside", "may not be fetched"),
        ("/decimal", "may not be fetched"),
        ("/mapped", "may not be fetched"),
        ("/elsewhere", "may not be fetched"),
        ("/port", "may not be fetched"),
        ("/user", "may not be fetched"),
        ("/file", "may not be fetched"),
        ("/relative", "may not be fetched"),
        ("/loop", "redirects"),
        ("/nowhere", "redirects"),
        ("/none", "404"),
        ("/flood", "larger"),
        ("/trickle", "too long"),
        ("/dripping", "could not be fetched"),
    ],
)
def test_what_goes_wrong_on_the_way(web: Fetcher, path: str, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        web.fetch(f"http://images.example.org{path}")


def test_a_name_is_looked_up_again_after_a_redirect(web: Fetcher) -> None:
    """Its owner may have turned it inside meanwhile (DNS rebinding)."""
    answers = iter([PUBLIC, "127.0.0.1"])
    turning = replace(web, find=lambda host, port: [next(answers)])
    with pytest.raises(ImageError, match="may not be fetched"):
        turning.fetch("http://images.example.org/once")
    assert next(answers, None) is None, "both were asked for"


def test_all_pictures_of_a_request_have_one_deadline_and_one_room(web: Fetcher) -> None:
    here = "http://images.example.org"
    asked: list[str] = []

    def slow(host: str, port: int) -> list[str]:
        asked.append(host)
        threading.Event().wait(0.3)
        return [PUBLIC]

    started = time.monotonic()
    urls = [f"{here}/a.png?{number}" for number in range(8)]
    found = replace(web, find=slow).fetch_all([f"{here}/a.png", *urls])
    assert time.monotonic() - started < 2 and len(asked) <= 2
    assert found.pop(f"{here}/a.png") == png()
    assert isinstance(found.popitem()[1], ImageError) and not found, "it ends at the first"
    found = replace(web, together=len(png())).fetch_all([f"{here}/a.png", f"{here}/once"])
    assert found[f"{here}/a.png"] == png() and "more than" in str(found[f"{here}/once"])
    twice = replace(web, together=len(png())).fetch_all([f"{here}/a.png"] * 2)
    assert list(twice.values()) == [png()]


def test_connecting_and_handshake_share_the_time(
    web: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is slow to connect to, and then says nothing."""
    hosted, ours = socket.create_server(("127.0.0.1", 0)), socket.create_connection

    def slowly(_: object, *more: float) -> socket.socket:
        threading.Event().wait(1.5)
        return ours(hosted.getsockname(), *more)

    monkeypatch.setattr(socket, "create_connection", slowly)
    started = time.monotonic()
    with pytest.raises(ImageError, match="could not be fetched"):
        replace(web, seconds=2.0, connect=connect).fetch("https://images.example.org/a.png")
    assert time.monotonic() - started < 3
    hosted.close()


def test_a_resolver_that_does_not_answer_is_given_up(web: Fetcher) -> None:
    stuck = threading.Event()

    def wait(host: str, port: int) -> list[str]:
        stuck.wait(60)
        return [PUBLIC]

    started = time.monotonic()
    with pytest.raises(ImageError, match="cannot be found"):
        replace(web, find=wait).fetch("http://images.example.org/a.png")
    assert time.monotonic() - started < 20
    stuck.set()


def test_a_name_that_does_not_resolve_or_answer() -> None:
    def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("secret resolver")

    with pytest.raises(ImageError, match="cannot be found"):
        Fetcher(HOSTS, find=nowhere).fetch("http://images.example.org/")  # type: ignore[arg-type]

    def refuse(target: Target, timeout: float) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", 1, timeout=1)

    with pytest.raises(ImageError, match="could not be fetched"):
        Fetcher(HOSTS, find=public, connect=refuse).fetch("http://images.example.org/")
