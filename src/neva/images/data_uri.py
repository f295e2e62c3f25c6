"""Images that arrive inside text: data URIs and NVIDIA's `<img src="...">` tags.

What a label claims ("image/png") is not trusted and need not be right: clients send
"image/image/png" and "text/plain". What counts is strict base64, and later the bytes (the door).
"""

import base64
import binascii
import html
import re
from dataclasses import dataclass

from neva.errors import ImageError

TAG = re.compile(r"""<img\s+src\s*=\s*(?:"([^"]*)"|'([^']*)')[^<>]*>""", re.IGNORECASE)
ASSET = re.compile(r"data:[^,;]*;asset_id,([^,;\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSource:
    """Where an image is to be had: the `src` of a tag or the `url` of a content part."""

    url: str

    @property
    def is_data(self) -> bool:
        """Whether the image itself is inside."""
        return self.url[:5].lower() == "data:" and self.asset_id is None

    @property
    def asset_id(self) -> str | None:
        """The id of an asset uploaded before ("data:image/jpeg;asset_id,ID"), if it is one."""
        found = ASSET.fullmatch(self.url)
        return found[1] if found else None

    def data(self) -> bytes:
        """The bytes of a data URI. Raises ImageError."""
        return parse_data_uri(self.url)


def parse_data_uri(uri: str) -> bytes:
    """The bytes of "data:...;base64,...". Strict: no white space or foreign letters inside.

    Raises ImageError.
    """
    head, comma, body = uri.partition(",")
    if not comma or head[:5].lower() != "data:" or not head.lower().endswith(";base64"):
        raise ImageError("the image is not a data URI; send data:image/png;base64,...")
    try:
        data = base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("the image's base64 is not valid; encode the file's bytes again") from None
    if not data:
        raise ImageError("the image's data URI is empty; send the bytes of an image")
    return data


def split_tags(text: str) -> list[str | ImageSource]:
    """Text cut at its `<img src=...>` tags; the parts in order, empty texts left out."""
    parts: list[str | ImageSource] = []
    start = 0
    for tag in TAG.finditer(text):
        parts.append(text[start : tag.start()])
        parts.append(ImageSource(html.unescape(tag[1] if tag[1] is not None else tag[2]).strip()))
        start = tag.end()
    parts.append(text[start:])
    return [part for part in parts if part != ""]
