"""Arrays kept by key, least recently used out first, bounded in bytes: the image caches."""

from collections import OrderedDict
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


class ArrayCache:
    """At most `limit` bytes of arrays. For one thread, or under the caller's lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[str, Array] = OrderedDict()

    def get(self, key: str) -> Array | None:
        """The array, now the most recently used, or None."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: str, array: Array) -> None:
        """Keep an array; one bigger than the whole cache is not kept."""
        if key in self._kept or array.nbytes > self._limit:
            return
        self._kept[key] = array
        self._bytes += array.nbytes
        while self._bytes > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes kept."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)
