"""Images decoded before are found again, by their owner only, in bounded memory."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from neva.errors import ImageError
from neva.images import ImageSource
from neva.server.decoded import DecodedImages


def png(seed: int, side: int = 10) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_the_same_bytes_of_the_same_owner_are_decoded_once() -> None:
    images = DecodedImages()
    first = images.read("anna", png(0))
    assert images.read("anna", png(0)) is first
    theirs = images.read("bert", png(0))
    assert theirs is not first and theirs.digest == first.digest
    assert images.read("anna", png(1)).digest != first.digest
    with pytest.raises(ValueError, match="read-only"):
        first.array[0] = 0


def test_memory_is_bounded() -> None:
    images = DecodedImages(limit=3 * 300)  # three pictures of 10 x 10
    large = images.read("anna", png(9, side=9))
    assert images.read("anna", png(9, side=9)) is not large  # more than a quarter: never kept
    images = DecodedImages(limit=5 * 300)
    first = images.read("anna", png(0))
    for seed in range(1, 5):
        images.read("anna", png(seed))
    assert images.read("anna", png(0)) is first  # used again: now the newest
    images.read("anna", png(5))
    assert images.read("anna", png(0)) is first
    assert images.read("anna", png(2)) is images.read("anna", png(2))


def test_what_is_no_image_is_refused_every_time() -> None:
    images = DecodedImages()
    for _ in range(2):
        with pytest.raises(ImageError):
            images.read("anna", png(0)[:40])


def test_a_data_uri_is_known_by_its_text_and_its_owner() -> None:
    images, asked = DecodedImages(), []

    class Watched(ImageSource):
        def data(self) -> bytes:
            asked.append(self.url)
            return super().data()

    source = Watched("data:image/png;base64," + base64.b64encode(png(0)).decode())
    first = images.read_uri("anna", source)
    assert images.read_uri("anna", source) is first and len(asked) == 1
    assert images.read_uri("bert", source) is not first
    assert first.digest == images.read("anna", png(0)).digest
    broken = Watched(source.url[:-1] + "?")
    for _ in range(2):
        with pytest.raises(ImageError, match="base64"):
            images.read_uri("anna", broken)
