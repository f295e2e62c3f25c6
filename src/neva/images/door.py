"""The one door through which every image enters: bytes or a file become a checked RGBImage.

The server's requests, training data, the command line and the benchmarks all come through here.
The format is told by the content, dimensions are read from the header before any pixel is decoded,
and whatever the decoder says stays inside: its words can leak addresses (CVE-2026-22778).
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from neva.errors import ImageError
from neva.images.image import RGBImage
from neva.images.pieces import MOST, count_pieces

EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """What is too much. The defaults let a camera's picture pass and stop a bomb."""

    bytes: int = 32 * 2**20
    """Size of the encoded image."""
    pixels: int = 64 * 10**6
    """Width times height."""
    side: int = 20_000
    """Width or height."""
    scans: int = 100
    """Scans of one JPEG: a progressive one has about ten."""
    scan_pixels: int = 20 * 64 * 10**6
    """A JPEG's scans times its pixels: each scan takes the decoder over all of them."""


def sniff(data: bytes) -> str | None:
    """The format by its first bytes, in the decoder's name; None if we do not take it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return None


def read_image(data: bytes | Path, limits: Limits = Limits(), name: str = "the image") -> RGBImage:
    """Decode a PNG, JPEG, WebP or GIF (its first frame), upright and with alpha laid on white.

    `name` is what errors call bytes; a file is called by its path. Raises ImageError with a remedy
    and no word of the decoder.
    """
    name = str(data) if isinstance(data, Path) else name
    if isinstance(data, Path):
        data = _read_file(data, limits)
    _check_bytes(len(data), name, limits)
    kind = sniff(data)
    if kind is None:
        raise ImageError(f"{name} is not a PNG, JPEG, WebP or GIF; convert it to one of them")
    array = _decode(data, kind, name, limits)
    return RGBImage(array, _digest(array))


def from_pixels(array: np.ndarray) -> RGBImage:
    """An RGBImage of pixels made in this process: uint8 (height, width, 3)."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageError(
            f"pixels must be uint8 (height, width, 3), not {array.dtype} {array.shape}"
        )
    return RGBImage(array, _digest(array))


def _read_file(path: Path, limits: Limits) -> bytes:
    try:
        if not path.exists():
            raise ImageError(f"{path} does not exist; check the path of the image")
        if not path.is_file():
            raise ImageError(f"{path} is not a file; give the path of an image")
        _check_bytes(path.stat().st_size, str(path), limits)
        return path.read_bytes()
    except (OSError, ValueError):
        raise ImageError(f"{path} cannot be read; check its name and permissions") from None


def _check_bytes(size: int, name: str, limits: Limits) -> None:
    if size == 0:
        raise ImageError(f"{name} is empty; send the bytes of an image")
    if size > limits.bytes:
        raise ImageError(
            f"{name} has {size:,} bytes, more than the {limits.bytes:,} allowed; make it smaller"
        )


def _decode(data: bytes, kind: str, name: str, limits: Limits) -> np.ndarray:
    scans = _checked_scans(data, kind, name, limits)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_size(image.size, name, limits)
            _check_scans(scans, image.size, name, limits)
            image.load()
            turn = UPRIGHT.get(_orientation(image))
            shown = _on_white(image)
            return np.array(shown.transpose(turn) if turn is not None else shown, dtype=np.uint8)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has far too many pixels; make it smaller") from None
    except Exception:
        # Every decoder fails in its own way (OSError, SyntaxError, struct.error, ...): all of them
        # mean the same to the sender, and none of their texts may pass.
        raise ImageError(
            f"{name} is damaged or incomplete; save it again or leave it out"
        ) from None


def _checked_scans(data: bytes, kind: str, name: str, limits: Limits) -> int:
    """How often the decoder goes over the pixels; ImageError if too often, or for too many pieces.

    Before the decoder sees anything: opening alone takes it through all pieces of the head.
    """
    pieces = count_pieces(data, kind)
    if pieces.count > MOST.get(kind, pieces.count):
        raise ImageError(f"{name} is cut into far too many pieces; save it again")
    if pieces.scans > limits.scans:
        raise ImageError(
            f"{name} has more than the {limits.scans} scans allowed; save it as a baseline JPEG"
        )
    return pieces.scans


def _check_scans(scans: int, size: tuple[int, int], name: str, limits: Limits) -> None:
    if scans * size[0] * size[1] > limits.scan_pixels:
        raise ImageError(
            f"{name} has {scans} scans of {size[0]} x {size[1]} pixels, too many to read; "
            "save it as a baseline JPEG"
        )


def _check_size(size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels; leave it out")
    if width * height > limits.pixels or max(size) > limits.side:
        raise ImageError(
            f"{name} is {width} x {height} pixels; at most {limits.pixels:,} pixels and "
            f"{limits.side:,} a side are allowed; make it smaller"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # broken metadata around good pixels: cameras and editors write such files
        return 1


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, with transparency laid on white."""
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip them
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((grey.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if "A" not in image.mode.upper() and "transparency" not in image.info:
        return image.convert("RGB")
    straight = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(straight, mask=straight.getchannel("A"))
    return white


def _digest(array: np.ndarray) -> str:
    height, width = array.shape[:2]
    head = f"RGB {width} {height}\n".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()
