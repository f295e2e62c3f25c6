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


def scans(side: int, repeats: int) -> bytes:
    """A grey progressive JPEG whose last scan, of few bytes, is there `repeats` times more."""
    whole = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * repeats + whole[-2:]


def with_chunks(chunks: bytes) -> bytes:
    """A PNG with `chunks` between its header and its pixels."""
    whole = encoded(noise(8, 8))
    return whole[:33] + chunks + whole[33:]


def with_segments(segments: bytes) -> bytes:
    """A JPEG with `segments` before all others."""
    whole = encoded(noise(8, 8), "JPEG")
    return whole[:2] + segments + whole[2:]


def with_blocks(blocks: bytes) -> bytes:
    """A GIF with `blocks` before its first frame."""
    whole = encoded(noise(8, 8), "GIF")
    head = 13 + (3 << ((whole[10] & 7) + 1))
    return whole[:head] + blocks + whole[head:]


PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**20 - 1), 9))
EXIF = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)


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
        "many scans": scans(16, 1500),
        "scans of many pixels": scans(7000, 50),
        "many chunks": with_chunks(chunk(b"prVt", b"") * 2**17),
        "many profiles": with_chunks(PROFILE * 200),
        "many segments": with_segments(b"\xff\xfe\0\2" * 2**18),
        "much exif": with_segments(EXIF * 100),
        "junk between segments": with_segments(b"\xff\xfe\0\2" + bytes(2**22)),
        "many blocks": with_blocks(b"\x21\xfe\x01a\0" * 2**18),
        "many blocks behind an empty one": with_blocks(
            b"\x21\1\0" + b",".ljust(45) * 2**16 + b"\0"
        ),
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
        "several scans": scans(40, 20),
        "some segments": with_segments(b"\xff\xfe\0\2" * 100 + EXIF),
        "some chunks": with_chunks(chunk(b"prVt", b"") * 1000 + PROFILE),
        "some blocks": with_blocks(b"\x21\xfe" + b"\x01a" * 1000 + b"\0"),
        "trailing bytes": encoded(picture, "JPEG") + b"<?php evil ?>" * 10,
        "broken exif": encoded(picture, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"),
    }
