"""The door lets good images in upright and white-backed, and refuses the rest in our own words."""

import time
from pathlib import Path

import numpy as np
import pytest
from hostile import accepted, encoded, noise, refused, scans
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neva.errors import ImageError
from neva.images import Limits, from_pixels, read_image

PILLOWS_WORDS = ("PIL", "Bytes", "0x", "decoder", "identify", "broken", "truncated", "Truncated")


@pytest.mark.parametrize("name", refused())
def test_hostile_bytes_are_refused_fast_in_our_words(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ImageError) as caught:
        read_image(refused()[name])
    assert time.perf_counter() - started < 2
    message = str(caught.value)
    assert message.startswith("the image ") and ";" in message
    assert not any(word in message for word in PILLOWS_WORDS)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", accepted())
def test_odd_images_are_accepted(name: str) -> None:
    image = read_image(accepted()[name])
    assert image.array.dtype == np.uint8 and image.array.shape[2] == 3
    assert image.size == (image.array.shape[1], image.array.shape[0])
    if image.size == (40, 30) and name != "several scans":
        difference = np.abs(image.array.astype(int) - np.asarray(noise(40, 30)).astype(int))
        assert difference.mean() < (140 if name in ("grey", "bilevel") else 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int) -> None:
    """All eight ways a camera can be held give the same picture."""
    upright = noise(48, 32, seed=3)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that makes each stored form
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        image = read_image(encoded(stored, kind, exif=exif, **options))
        assert np.array_equal(image.array, np.asarray(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_alpha_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 2), (0, 0, 0, 255))
    if mode == "P":
        data = encoded(clear.quantize(4))
    elif mode == "PA":
        data = encoded(clear, "GIF")
    else:
        data = encoded(clear.convert(mode))
    array = read_image(data).array
    assert array[2, 1].max() == 0
    assert array.sum() == 15 * 3 * 255


def test_half_transparent_and_colour_key() -> None:
    half = encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))
    assert set(read_image(half).array.flat) <= {126, 127, 128}
    keyed = encoded(Image.new("RGB", (2, 2), (9, 9, 9)), transparency=(9, 9, 9))
    assert read_image(keyed).array.min() == 255


def test_sixteen_bits_keep_their_shades() -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    array = read_image(encoded(Image.fromarray(ramp))).array
    assert np.array_equal(array[..., 0], np.arange(256).reshape(16, 16))


def test_the_digest_is_of_pixels_and_shape() -> None:
    picture = noise(20, 10)
    png, webp = read_image(encoded(picture)), read_image(encoded(picture, "WEBP", lossless=True))
    assert png.digest == webp.digest
    turned = from_pixels(png.array.reshape(20, 10, 3))  # same bytes, other shape
    assert turned.digest != png.digest
    assert read_image(encoded(noise(20, 10, 1))).digest != png.digest


def test_limits() -> None:
    data = encoded(noise(100, 50))
    for limits in (Limits(bytes=100), Limits(pixels=4999), Limits(side=99)):
        with pytest.raises(ImageError, match="make it smaller"):
            read_image(data, limits)
    six = scans(16, 0)
    for limits in (Limits(scans=5), Limits(scan_pixels=6 * 256 - 1)):
        with pytest.raises(ImageError, match="save it as a baseline JPEG"):
            read_image(six, limits)
    assert read_image(six, Limits(scans=6, scan_pixels=6 * 256)).size == (16, 16)
    assert read_image(data, Limits(len(data), 5000, 100)).size == (100, 50)


def test_files_are_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.gif", tmp_path / "bad.png"  # a PNG named .gif is still a PNG
    good.write_bytes(encoded(noise(8, 8)))
    bad.write_bytes(b"nothing")
    assert read_image(good).size == (8, 8)
    for path, words in (
        (bad, "convert it"),
        (tmp_path / "none.png", "does not exist"),
        (tmp_path, "is not a file"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (Path("a\0b"), "cannot be read|does not exist"),
    ):
        with pytest.raises(ImageError, match=words) as caught:
            read_image(path)
        assert str(path) in str(caught.value)


@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.integers(1, 4000),
)
@settings(max_examples=150, deadline=None)
def test_damage_gives_an_image_or_our_error(
    kind: str, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(encoded(noise(24, 16), kind))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        assert read_image(bytes(data[:cut]), Limits(pixels=10**6)).array.shape[2] == 3
    except ImageError as error:
        assert not any(word in str(error) for word in PILLOWS_WORDS)


def test_pixels_made_here() -> None:
    with pytest.raises(ImageError, match="uint8"):
        from_pixels(np.zeros((2, 2, 3), dtype=np.float32))
