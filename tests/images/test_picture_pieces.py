"""Files are counted as their decoders step through them, whatever the bytes, in no time."""

import random
import re
import time

import pytest
from hostile import EXIF, PROFILE, chunk, encoded, noise, scans, with_blocks, with_chunks
from hostile import with_segments as jpeg_with
from hypothesis import given
from hypothesis import strategies as st

from neva.images.pieces import EXIF_WEIGHT, ICC_WEIGHT, MOST, count_pieces

KINDS = ("PNG", "JPEG", "WEBP", "GIF")
COMMENT = b"\xff\xfe\0\2"


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_scans_of_ordinary_pictures(mode: str) -> None:
    picture = noise(64, 48, mode=mode)
    assert count_pieces(encoded(picture, "JPEG"), "JPEG").scans == 1
    progressive = encoded(picture, "JPEG", progressive=True)
    scans = len(re.findall(rb"\xff\xda", progressive))
    assert scans >= 6
    assert count_pieces(progressive, "JPEG").scans == scans
    restarting = encoded(picture, "JPEG", progressive=True, restart_marker_blocks=1)
    assert count_pieces(restarting, "JPEG").scans == scans


def test_a_scan_is_counted_wherever_the_decoder_finds_it() -> None:
    whole = scans(16, 0)
    assert count_pieces(whole, "JPEG").scans == 6
    assert count_pieces(scans(16, 30), "JPEG").scans == 36
    last = whole[whole.rindex(b"\xff\xda") : -2]
    for before in (b"junk", b"\xff\xff", b"\xff\0", b"\xff\xd3", b"\xff\1", b"\xff\2\xff\xf0"):
        cut = whole[:-2] + (before + last) * 30 + whole[-2:]
        assert count_pieces(cut, "JPEG").scans == 36, before
    thumbnail = b"\xff\xe1" + (2 + len(whole)).to_bytes(2, "big") + whole
    assert count_pieces(whole[:2] + thumbnail + whole[2:], "JPEG").scans == 6
    assert count_pieces(whole + whole * 30, "JPEG").scans == 6, "what follows is not decoded"
    assert count_pieces(scans(16, 10**5), "JPEG").scans == MOST["JPEG"] + 1


def test_pieces_are_counted() -> None:
    plain, segments = encoded(noise(8, 8)), encoded(noise(8, 8), "JPEG")
    gif = encoded(noise(8, 8), "GIF")

    def more(data: bytes, than: bytes, kind: str) -> int:
        return count_pieces(data, kind).count - count_pieces(than, kind).count

    assert count_pieces(plain, "PNG").count == 3
    assert more(with_chunks(chunk(b"prVt", b"abc") * 7), plain, "PNG") == 7
    assert more(with_chunks(PROFILE * 2), plain, "PNG") == 2 * ICC_WEIGHT
    assert more(plain + bytes(10**6), plain, "PNG") == 0, "what follows is not read"
    assert more(jpeg_with(COMMENT * 7), segments, "JPEG") == 7
    assert more(jpeg_with(COMMENT + bytes(9) + b"\xff\xd9"), segments, "JPEG") == 11
    assert more(jpeg_with(EXIF * 2), segments, "JPEG") == 2 * EXIF_WEIGHT
    assert more(with_blocks(b"\x21\xfe\3abc\1,\0"), gif, "GIF") == 3
    assert more(with_blocks(b"\x21\1\0\3abc\0"), gif, "GIF") == 2
    assert more(with_blocks(b"\x21\xff\x0bNETSCAPE2.0\0\1,\0"), gif, "GIF") == 2


@given(kind=st.sampled_from(KINDS), data=st.binary(max_size=300), cut=st.integers(0, 700))
def test_any_bytes_can_be_counted(kind: str, data: bytes, cut: int) -> None:
    whole = encoded(noise(8, 8), kind)
    for bytes_ in (data, whole[:cut], whole[:cut] + data + whole[cut:]):
        assert count_pieces(bytes_, kind).count >= 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "filler",
    [
        b"\xff\xd9",
        b"\0",
        b"\xff",
        b"\xff\0",
        b"\xff\xd0",
        b"\xff\xda",
        COMMENT,
        b"\x21\xfe\0",
        None,
    ],
)
def test_counting_is_quick(kind: str, filler: bytes | None) -> None:
    size = 2**24
    junk = random.Random(0).randbytes(size) if filler is None else filler * (size // len(filler))
    whole = encoded(noise(8, 8), kind)
    for head in (whole[:13], whole[:-16]):
        started = time.perf_counter()
        count_pieces(head + junk, kind)
        assert time.perf_counter() - started < 2
