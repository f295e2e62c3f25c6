"""Drawings of a benchmark as pixels: SVGs drawn by resvg, PNGs as they are."""

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from neva.errors import DataError

DPI = 96  # of CSS: a width in pt or mm; resvg_py's own default, 0, refuses such files


def render(path: Path, width: int, background: str | None = "white") -> bytes:
    """An SVG as PNG, `width` pixels wide; transparent with background None.

    Raises DataError when resvg is not installed or the file is missing or damaged.
    """
    try:
        import resvg_py
    except ModuleNotFoundError:
        raise DataError(
            f"{path.name} is an SVG and needs resvg to be drawn: pip install 'neva-vlm[eval]' "
            "or resvg_py."
        ) from None
    if not path.is_file():
        raise DataError(f"{path} does not exist; unpack the whole package again.")
    try:
        drawn = resvg_py.svg_to_bytes(
            svg_path=str(path),
            width=width,
            background=background,
            skip_system_fonts=True,
            dpi=DPI,
        )
        return bytes(drawn)
    except ValueError as error:
        raise DataError(f"{path} cannot be drawn ({error}); unpack the package again.") from None


def cut_out(path: Path, width: int) -> Image.Image:
    """A drawing (SVG or PNG) as RGBA, cropped to what is not transparent.

    An SVG is drawn `width` pixels wide before it is cropped.
    """
    try:
        data = render(path, width, None) if path.suffix == ".svg" else path.read_bytes()
        image = Image.open(io.BytesIO(data)).convert("RGBA")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; unpack the whole package again.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path} is not a picture ({error}); unpack the package again.") from None
    return image.crop(image.getchannel("A").getbbox() or (0, 0, *image.size))


def write_once(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(data)
    aside.replace(path)
