"""Issue 5, point 7, where no other file proves it: who may ask, how much, and what odd images do.

docs/security.md lists every sentence with its test.
"""

import io
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from echo_engine import EchoEngine, wait_until
from hostile import accepted, chunk, encoded, noise, png_header, refused
from PIL import Image
from server_house import CHAT, NVIDIA, House, data_uri, png
from test_fetch import LOCAL_NAMES, ODD, PUBLIC
from test_keys import bearer, run

from neva.commands.serve import banner, guarded
from neva.errors import NevaError
from neva.server import assets, auth, content
from neva.server.address import LOOPBACK_NAMES, check_exposure, in_the_clear
from neva.server.auth import Key, Keys, hashed, new_key
from neva.server.fetch import Fetcher, Target
from neva.server.settings import Limits, Settings

HI = {"messages": [{"role": "user", "content": "Hi"}]}
ORIGIN = {"origin": "https://pages.example.org"}
ASKS = {**ORIGIN, "access-control-request-method": "POST"}


# Who may ask


class Counting:
    """`hmac.compare_digest` that notes what it compared."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any]] = []

    def compare_digest(self, first: Any, second: Any) -> bool:
        self.seen.append((first, second))
        return bool(first == second)


def test_looking_for_a_key_takes_as_long_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [new_key() for _ in range(9)]
    keys = Keys(tuple(Key(f"k{n}", hashed(secret)) for n, secret in enumerate(secrets)))
    counts = []
    for asked in (secrets[0], secrets[8], "none", ""):
        monkeypatch.setattr(auth, "hmac", counting := Counting())
        keys.find(asked)
        counts.append(len(counting.seen))
        assert all(asked not in pair for pair in counting.seen if asked), "only hashes are compared"
    assert counts == [18] * 4, "every key and every old key, found or not"


def test_an_uploads_signature_is_compared_in_constant_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = house.client.post(
        "/v2/nvcf/assets", json={"contentType": "image/png", "description": ""}
    ).json()
    start, signature = made["uploadUrl"].rsplit("signature=", 1)
    counting = Counting()
    counting.new = assets.hmac.new  # type: ignore[attr-defined]
    monkeypatch.setattr(assets, "hmac", counting)
    for wrong in ("", "x", signature[:-1] + "0", "f" * 64):
        assert house.client.put(f"{start}signature={wrong}", content=b"x").status_code == 403
    assert [len(pair[0]) for pair in counting.seen] == [64] * 4


def test_a_keys_rate_is_kept_over_http(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(keys=Keys((Key("ann", hashed("a"), per_minute=2),))))
    answers = [house.client.post(NVIDIA, json=HI, headers=bearer("a")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].json()["error"]["type"] == "rate_limit_error"
    assert len(house.engine.streams) == 2


def test_rotation_by_the_command_reaches_a_running_server(
    house_of: Callable[..., House], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    first = run("new", "ann", "--file", file)
    house = house_of(Settings(key_file=file))

    def status(secret: str) -> int:
        return int(house.client.get("/v1/models", headers=bearer(secret)).status_code)

    assert status(first) == 200
    second = run("rotate", "ann", "--file", file)
    assert wait_until(lambda: status(second) == 200), "no restart"
    assert status(first) == 401


def test_a_public_address_needs_keys_or_a_stated_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEVA_API_KEY", raising=False)
    public = Settings(host="0.0.0.0")
    with pytest.raises(NevaError, match="--tls-in-front"):
        guarded(public)
    stated = guarded(replace(public, tls_in_front=True))
    assert stated.hosts == (), "the proxy's names are not ours to know"
    assert guarded(Settings()).hosts == (*LOOPBACK_NAMES, "127.0.0.1")
    monkeypatch.setenv("NEVA_API_KEY", "nvapi-of-the-test")
    keyed = guarded(public)
    check_exposure(keyed)
    assert in_the_clear(keyed) and "unencrypted" in banner(keyed)
    assert not in_the_clear(stated) and "unencrypted" not in banner(stated)
    assert "unencrypted" not in banner(guarded(Settings()))
    assert "nvapi" not in banner(keyed)


def test_no_page_may_call_the_api_unless_its_origin_is_named(
    house: House, house_of: Callable[..., House]
) -> None:
    for answer in (
        house.client.options(CHAT, headers=ASKS),
        house.client.post(CHAT, json=HI, headers=ORIGIN),
        house.client.get("/v1/models", headers=ORIGIN),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    open_to_one = house_of(Settings(cors=(ORIGIN["origin"],)))
    asked = open_to_one.client.options(CHAT, headers=ASKS)
    assert asked.headers["access-control-allow-origin"] == ORIGIN["origin"]
    assert "access-control-allow-credentials" not in asked.headers
    other = {**ASKS, "origin": "https://evil.example"}
    asked = open_to_one.client.options(CHAT, headers=other)
    assert "access-control-allow-origin" not in asked.headers


# How much


def test_every_limit_has_its_status(house_of: Callable[..., House]) -> None:
    picture, large = (
        {"type": "image_url", "image_url": data_uri(png(*size))} for size in ((8, 6), (11, 10))
    )
    limits = Limits(body_bytes=9000, images=2, pixels=100, nvidia_max_tokens=8, messages=3)
    house = house_of(Settings(limits=limits), EchoEngine(context=256))
    beyond: list[tuple[int, dict[str, Any]]] = [
        (413, {"messages": [{"role": "user", "content": "x" * 9000}]}),
        (422, {"messages": [{"role": "user", "content": [picture] * 3}]}),
        (422, {"messages": [{"role": "user", "content": [large]}]}),
        (422, {"messages": [{"role": "user", "content": "word " * 1000}]}),
        (422, {**HI, "max_tokens": 9}),
        (422, {"messages": HI["messages"] * 4}),
    ]
    for status, body in beyond:
        answer = house.client.post(NVIDIA, json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["status"] == status
    assert house.engine.streams == []
    assert house.client.post(NVIDIA, json=HI).status_code == 200


# URLs


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
def test_hostile_urls_over_http(
    house_of: Callable[..., House], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decimal, octal, hexadecimal, mapped and other names of inside, where fetching is allowed."""
    looked_up: list[str] = []

    def find(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return [PUBLIC]

    monkeypatch.setattr(content, "Fetcher", partial(Fetcher, find=find))
    house = house_of(Settings(images_from=("images.example.org",)))
    for url in [*(f"http://{name}/a.png" for name in LOCAL_NAMES), *ODD]:
        answer = house.ask([{"type": "image_url", "image_url": {"url": url}}], path)
        assert answer.status_code == 422, url
        known = url.lower().startswith(("http://", "https://"))
        said = "may not be fetched" if known else "neither a data URI"
        assert said in answer.json()["detail"], url
    assert looked_up == [] and house.engine.streams == []


def test_an_allowed_url_is_an_image_and_an_inner_one_is_not(
    house_of: Callable[..., House], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Off: refused. Allowed: fetched from the checked address. The name turns inside: refused."""
    addresses = [PUBLIC]

    class Canned(HTTPConnection):
        """A host that has one picture, without a network."""

        def __init__(self, target: Target) -> None:
            super().__init__(target.address)
            assert target.address == PUBLIC

        def connect(self) -> None:
            ours = io.BytesIO(b"HTTP/1.0 200 OK\r\n\r\n" + png(5, 4, (0, 255, 0)))

            class Socket:
                def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
                    return ours

                def sendall(self, *_: Any) -> None:
                    pass

                def close(self) -> None:
                    pass

            self.sock = Socket()  # type: ignore[assignment]

    fetcher = partial(Fetcher, find=lambda *_: addresses, connect=lambda target, _: Canned(target))
    monkeypatch.setattr(content, "Fetcher", fetcher)
    asked = [{"type": "image_url", "image_url": "https://images.example.org/a.png"}]
    refused_off = house_of().ask(asked)
    assert refused_off.status_code == 422 and "fetches no images" in refused_off.json()["detail"]
    house = house_of(Settings(images_from=("images.example.org",)))
    for content_of in (asked, '<img src="https://images.example.org/a.png" /> What?'):
        assert "[(5, 4) [0, 255, 0]]" in house.text(content_of)
    addresses[:] = ["169.254.169.254"]
    assert "may not be fetched" in house.ask(asked).json()["detail"]


# Images


def rgb16(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""
    row = b"\0" + b"".join(struct.pack(">H", value * 257) for value in colour) * width
    data = chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    return png_header(width, height, 16, 2) + data


def turned() -> bytes:
    """A picture of 6 x 4 that a camera held upright wrote as 4 x 6."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (4, 6), (0, 0, 255)), "JPEG", exif=exif, quality=100)


@cache
def odd() -> dict[str, tuple[bytes, tuple[int, int], tuple[int, int, int] | None]]:
    """Name -> bytes, size and first pixel (None: whatever) as the model must get them."""
    grey16 = Image.new("I;16", (3, 2), 200 * 257)
    clear = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    two = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    keyed = Image.new("P", (3, 2), 0)
    keyed.putpalette([0, 128, 0] * 256)
    return {
        "16 bits of grey": (encoded(grey16), (3, 2), (200, 200, 200)),
        "16 bits of each colour": (rgb16(3, 2, (10, 200, 30)), (3, 2), (10, 200, 30)),
        "CMYK": (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), (8, 8), None),
        "palette": (encoded(keyed), (3, 2), (0, 128, 0)),
        "palette with alpha": (encoded(keyed, transparency=0), (3, 2), (255, 255, 255)),
        "alpha": (encoded(clear), (3, 2), (255, 255, 255)),
        "alpha in WebP": (encoded(clear, "WEBP", lossless=True), (3, 2), (255, 255, 255)),
        "grey and alpha": (encoded(Image.new("LA", (3, 2), (9, 0))), (3, 2), (255, 255, 255)),
        "one bit": (encoded(Image.new("1", (3, 2), 255)), (3, 2), (255, 255, 255)),
        "EXIF": (turned(), (6, 4), None),
        "GIF of two": (
            encoded(two[0], "GIF", save_all=True, append_images=two[1:]),
            (3, 2),
            (255, 0, 0),
        ),
        "PNG of two": (
            encoded(two[0], save_all=True, append_images=two[1:]),
            (3, 2),
            (255, 0, 0),
        ),
        "1x1": (encoded(Image.new("RGB", (1, 1), "red")), (1, 1), (255, 0, 0)),
        "1x20000": (accepted()["1x20000"], (1, 20000), (255, 0, 0)),
        "20000x1": (accepted()["20000x1"], (20000, 1), (255, 0, 0)),
    }


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
@pytest.mark.parametrize("name", odd())
def test_odd_images_over_http(house: House, path: str, name: str) -> None:
    data, size, pixel = odd()[name]
    said = house.text(f'<img src="{data_uri(data)}" />', path)
    assert f"[{size} [" in said
    if pixel is not None:
        assert f"[{size} {list(pixel)}]" in said


def test_odd_images_as_files_and_assets(house_of: Callable[..., House]) -> None:
    house = house_of()
    for name in ("16 bits of each colour", "EXIF", "1x1", "1x20000"):
        data, size, _ = odd()[name]
        form: dict[str, Any] = {"files": {"file": ("a.png", data)}, "data": {"purpose": "vision"}}
        file = house.client.post("/v1/files", **form).json()["id"]
        assert f"[{size} [" in house.text([{"type": "file", "file": {"file_id": file}}], CHAT)
        new = {"contentType": "image/png", "description": ""}
        asset = house.client.post("/v2/nvcf/assets", json=new).json()
        headers = {"content-type": "image/png"}
        put = house.client.put(asset["uploadUrl"], content=data, headers=headers)
        assert put.status_code == 200
        tag = f'<img src="data:image/png;asset_id,{asset["assetId"]}" />'
        assert f"[{size} [" in house.text(tag)


def worse() -> dict[str, bytes]:
    """More that must be refused, quickly and in few words."""
    whole = {kind: encoded(noise(64, 48), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")}
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(30_000_000)))
    return {
        **{f"truncated {kind}": data[: len(data) * 2 // 3] for kind, data in whole.items()},
        "bomb of text": whole["PNG"][:33] + text + whole["PNG"][33:],
        "bomb": refused()["bomb by pixels"],
        "wide bomb": refused()["bomb by side"],
        "tiff": refused()["tiff"],
        "psd": refused()["psd"],
    }


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
def test_worse_images_over_http(house: House, path: str) -> None:
    for name, data in worse().items():
        started = time.monotonic()
        answer = house.ask([{"type": "image_url", "image_url": data_uri(data)}], path)
        assert answer.status_code == 422, name
        assert time.monotonic() - started < 10, name
        detail = answer.json()["detail"]
        assert detail.startswith("image 1: the image "), name
        words = ("PIL", "Pillow", "0x", "/", "Error", "decode", "MAX_", "zlib", "libjpeg")
        assert not [word for word in words if word in detail], detail
    assert house.engine.streams == []
