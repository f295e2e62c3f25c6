"""A small corpus of images that break services: bombs, lies, cuts, odd modes. Made, not stored."""

import io
import struct
import zlib
from collections.abc import Mapping
from functools import cache

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def noise(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A smooth-ish random picture: noise survives JPEG and resizing tests badly."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)


def bomb(width: int, height: int) -> bytes:
    """A valid black PNG of few bytes and many pixels."""
    rows = zlib.compress(bytes(width // 8 + 1) * height, 9)
    return png_header(width, height, 1, 0) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def refused() -> Mapping[str, bytes]:
    """Bytes that must be refused with an ImageError, each in milliseconds."""
    png, jpeg = encoded(noise(64, 48)), encoded(noise(64, 48), "JPEG")
    webp = encoded(noise(64, 48), "WEBP")
    return {
        "empty": b"",
        "text": b"not an image",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        "bmp": encoded(noise(8, 8), "BMP"),
        "tiff": encoded(noise(8, 8), "TIFF"),
        "ppm": encoded(noise(8, 8), "PPM"),
        "psd": b"8BPS\x00\x01" + bytes(40),
        "jpeg 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40),
        "magic only": b"\x89PNG\r\n\x1a\n",
        "cut png": png[: len(png) // 2],
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "cut webp": webp[: len(webp) // 2],
        "cut gif": encoded(noise(64, 48), "GIF")[:200],
        "jpeg labelled png": b"\x89PNG\r\n\x1a\n" + jpeg,
        "bomb by pixels": bomb(19_999, 19_999),
        "bomb by side": bomb(60_000, 1),
        "header lies": png_header(2**31 - 1, 2**31 - 1)
        + chunk(b"IDAT", b"x")
        + chunk(b"IEND", b""),
        "zero wide": png_header(0, 10) + chunk(b"IEND", b""),
        "no data": png_header(10, 10) + chunk(b"IEND", b""),
        "bad checksum": png[:40] + bytes([png[40] ^ 255]) + png[41:],
    }


@cache
def accepted() -> Mapping[str, bytes]:
    """Bytes that are unusual but fine."""
    picture = noise(40, 30)
    return {
        "1x1": encoded(noise(1, 1)),
        "1x20000": encoded(Image.new("RGB", (1, 20_000), "red")),
        "20000x1": encoded(Image.new("RGB", (20_000, 1), "red")),
        "grey": encoded(picture.convert("L")),
        "bilevel": encoded(picture.convert("1")),
        "palette": encoded(picture.convert("P")),
        "cmyk jpeg": encoded(picture.convert("CMYK"), "JPEG"),
        "progressive": encoded(picture, "JPEG", progressive=True),
        "lossless webp": encoded(picture, "WEBP", lossless=True),
        "animated gif": encoded(picture, "GIF", save_all=True, append_images=[noise(40, 30, 1)]),
        "trailing bytes": encoded(picture, "JPEG") + b"<?php evil ?>" * 10,
        "broken exif": encoded(picture, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"),
    }
