"""Five hundred damaged pictures through the server's door: each is read or refused, in no time."""

import random
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from server_house import House, data_uri

from neva.images import ImageSource
from neva.server.assets import Assets
from neva.server.content import Images
from neva.server.database import SqliteDatabase
from neva.server.errors import ApiError
from neva.server.file_store import FileStore
from neva.server.settings import Settings

KINDS = ("PNG", "JPEG", "WEBP", "GIF")
PER_KIND = 130


def picture(kind: str) -> bytes:
    rng = random.Random(kind)
    image = Image.frombytes("RGB", (48, 32), rng.randbytes(48 * 32 * 3))
    sink = BytesIO()
    image.save(sink, kind)
    return sink.getvalue()


def damaged(kind: str) -> Iterator[bytes]:
    """Cut short, bytes changed, pieces swapped, repeated, lengths lied about."""
    rng, whole = random.Random(f"damage {kind}"), picture(kind)
    for number in range(PER_KIND):
        data = bytearray(whole)
        way = number % 5
        if way == 0:
            del data[rng.randrange(4, len(data)) :]
        elif way == 1:
            for _ in range(rng.randrange(1, 12)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif way == 2:
            for _ in range(3):
                data[rng.randrange(8, 64)] = rng.choice((0, 127, 128, 255))
        elif way == 3:
            start, length = rng.randrange(8, len(data)), rng.randrange(1, 400)
            data[start:start] = data[start : start + length] * rng.randrange(1, 9)
        else:
            start = rng.randrange(8, len(data))
            data[start : start + 4] = b"\xff\xff\xff\xff"
        yield bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pictures_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    settings = Settings()
    assets = Assets(settings)
    files = FileStore(SqliteDatabase(tmp_path / "store.sqlite"), settings.limits)
    refused = 0
    try:
        for number, data in enumerate(damaged(kind)):
            images, started = Images("local", settings, assets, files), time.monotonic()
            try:
                images.take(ImageSource(data_uri(data)))
                (image,) = images.all()
                assert image.array.shape[2] == 3 and image.array.size
            except ApiError as error:
                refused += 1
                assert error.status_code == 422
                assert not [word for word in ("PIL", "0x", "/", "Error") if word in error.detail]
            assert time.monotonic() - started < 5, f"{kind} {number}"
    finally:
        assets.close()
    assert 0 < refused < PER_KIND, "some must be read, some refused, or this tests nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_over_http_too(house: House, kind: str) -> None:
    for data in list(damaged(kind))[:10]:
        answer = house.ask([{"type": "image_url", "image_url": data_uri(data)}])
        assert answer.status_code in (200, 422), answer.text


def test_the_corpus_is_large() -> None:
    assert len({data for kind in KINDS for data in damaged(kind)}) >= 500
