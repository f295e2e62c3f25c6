"""Into how many pieces a picture's file is cut, told without decoding it.

Half a megabyte of JPEG can hold thousands of scans, each of which takes the decoder over all
pixels; and Pillow steps through a file's head piece by piece in Python. The walks here follow the
decoders' own steps, never see fewer pieces than they do, and end at MOST.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xdf\xe0-\xef\xfe]")
"""JPEG's markers that begin a piece or end the picture; what is none belongs to a scan's data."""
EOI, SOS, APP1 = 0xD9, 0xDA, 0xE1

MOST: Mapping[str, int] = {"JPEG": 1024, "PNG": 32_768, "GIF": 32_768}
"""More pieces than this are no honest file of at most 32 MiB. WebP is cut in C, and quickly."""
EXIF_WEIGHT = 16
"""Pillow joins JPEG's Exif pieces by copying all before: honest files have one."""
ICC_WEIGHT = 1024
"""Each iCCP chunk of a PNG may unpack to a mebibyte, and Pillow unpacks all of them."""


@dataclass(frozen=True)
class Pieces:
    """What a decoder has to step through; counting stops above MOST."""

    count: int = 0
    scans: int = 1


def count_pieces(data: bytes, kind: str) -> Pieces:
    """The pieces of a file of `kind`, the decoder's name of a format. Any bytes will do."""
    walks: dict[str, Callable[[bytes], Pieces]] = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif}
    walk = walks.get(kind)
    return walk(data) if walk is not None else Pieces()


def _jpeg(data: bytes) -> Pieces:
    """Segments and scans up to the end of the picture; of the head also junk between segments."""
    count = scans = 0
    place, most = 2, MOST["JPEG"]
    while max(count, scans) <= most and (found := MARKER.search(data, place)):
        kind, body = data[found.start() + 1], found.end()
        if kind == EOI and scans:  # Pillow reads on after one in the head
            break
        if not scans:
            count += found.start() - place
        if kind in (EOI, SOS):
            scans += kind == SOS
            count += kind == EOI
            place = body
            continue
        exif = kind == APP1 and data.startswith(b"Exif\0\0", body + 2)
        count += EXIF_WEIGHT if exif else 1
        place = body + max(2, int.from_bytes(data[body : body + 2], "big"))
    return Pieces(count, scans)


def _png(data: bytes) -> Pieces:
    """Chunks up to IEND."""
    count, place, most = 0, 8, MOST["PNG"]
    while count <= most and place + 8 <= len(data):
        name = data[place + 4 : place + 8]
        count += ICC_WEIGHT if name == b"iCCP" else 1
        if name == b"IEND":
            break
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return Pieces(count)


def _gif(data: bytes) -> Pieces:
    """Blocks, and junk between them, before the first frame."""
    flags = data[10] if len(data) > 10 else 0
    place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    count, most = 0, MOST["GIF"]
    while count <= most and place < len(data) and data[place] not in b",;":
        count += 1
        if data[place] != 0x21:
            place += 1
            continue
        label, place = data[place + 1 : place + 2], place + 2
        if label != b"\xfe":  # Pillow takes these blocks singly, empty or not, then the rest
            netscape = label == b"\xff" and data.startswith(b"NETSCAPE2.0", place + 1)
            for _ in range(2 if netscape else 1):
                place += 1 + int.from_bytes(data[place : place + 1], "big")
        while count <= most and place < len(data) and data[place]:
            place += 1 + data[place]
            count += 1
        place += 1
    return Pieces(count)
