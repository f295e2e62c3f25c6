"""How much of each prompt the KV cache had seen: reckoned here, since genai does not tell.

genai keeps every full block of keys and values by what came before it, least recently used out
first; this keeps the same list without the keys and values.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neva.engine.messages import Picture

Ids = Sequence[int] | NDArray[Any]
BLOCK = 32  # tokens per KV block of the CPU plugin


class PrefixTally:
    """Counts prompt tokens, and those in blocks that were computed before. Safe from any thread."""

    def __init__(self, blocks: int, image_tokens: int) -> None:
        self._blocks, self._image_tokens = blocks, image_tokens
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._lock = Lock()
        self.asked = 0
        self.known = 0

    def ask(self, ids: Ids, pictures: Sequence[Picture]) -> int:
        """Count a prompt that is sent; how many of its tokens are known."""
        known = 0
        with self._lock:
            for chain in self._chains(ids[: len(ids) - 1], pictures):  # the last is computed anew
                if chain not in self._kept:
                    break
                known += BLOCK
            self.asked += len(ids)
            self.known += known
        return known

    def keep(self, ids: Ids, pictures: Sequence[Picture]) -> None:
        """A prompt and its answer were computed, as far as `ids` go."""
        with self._lock:
            for chain in self._chains(ids, pictures):
                self._kept[chain] = None
                self._kept.move_to_end(chain)
            while len(self._kept) > self._blocks:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """The process was started again."""
        with self._lock:
            self._kept.clear()

    def _chains(self, ids: Ids, pictures: Sequence[Picture]) -> list[int]:
        """A number for each full block, which stands for it and all before it."""
        numbers, chain, chains = np.asarray(ids, dtype=np.int64), 0, []
        for start in range(0, len(numbers) - BLOCK + 1, BLOCK):
            end = start + BLOCK
            shown = tuple(
                (picture.name, picture.start - start)
                for picture in pictures
                if picture.start < end and picture.start + self._image_tokens > start
            )
            chain = hash((chain, numbers[start:end].tobytes(), shown))
            chains.append(chain)
        return chains
