"""Images decoded before: the same bytes from the same owner are not decoded a second time.

A conversation sends its picture again with every turn, and decoding it is most of what a server
adds to the time to the first word; of a data URI not even the base64 is read again. Bounded in
bytes of pixels, least recently used out first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from neva.images import ImageSource, RGBImage, read_image

KEPT_BYTES = 64 * 2**20


class DecodedImages:
    """`read` from any thread."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, bytes], RGBImage] = OrderedDict()
        self._lock = Lock()

    def read(self, owner: str, data: bytes) -> RGBImage:
        """The image in `data`; ImageError as the door says it. What is not an image is not kept."""
        return self._read(owner, data, lambda: data)

    def read_uri(self, owner: str, source: ImageSource) -> RGBImage:
        """The image in a data URI, known again by its text: as `read`.

        Bytes and URIs share the keys: what begins with "data:" is no image.
        """
        return self._read(owner, source.url.encode("utf-8", "surrogatepass"), source.data)

    def _read(self, owner: str, name: bytes, data: Callable[[], bytes]) -> RGBImage:
        key = owner, hashlib.sha256(name).digest()
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        image = read_image(data())
        self._keep(key, image)
        return image

    def _keep(self, key: tuple[str, bytes], image: RGBImage) -> None:
        """One that would need more than a quarter of the room is not kept."""
        with self._lock:
            if key in self._kept or image.array.nbytes * 4 > self._limit:
                return
            image.array.setflags(write=False)  # several requests hold it now
            self._kept[key] = image
            self._bytes += image.array.nbytes
            while self._bytes > self._limit:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.array.nbytes
