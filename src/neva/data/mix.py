"""In which order records of several data sets are seen: a pure function of seed and place.

A pass is a fixed number of samples. A data set of weight 1 gives each of its records once a pass,
weight 2 twice, and weight 0.5 half of them, the other half in the next pass: a data set's own
sequence is endless, pass after pass of itself, and a run's pass takes the next piece of it. So
nothing is drawn by chance with repetition, counts are exact, and a place says it all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FRACTIONS = 7919  # keeps the draws of parts apart from the draws of whole passes


@dataclass(frozen=True)
class Mix:
    """Data sets of `sizes` records, one after another, seen `weights` times in a pass."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...]

    @cached_property
    def takes(self) -> tuple[int, ...]:
        """Samples of each data set in one pass; at least one of a set that has records."""
        return tuple(
            max(1, round(size * weight)) if size else 0
            for size, weight in zip(self.sizes, self.weights, strict=True)
        )

    @property
    def length(self) -> int:
        """Samples in one pass."""
        return sum(self.takes)

    @property
    def plain(self) -> bool:
        """Whether every record is seen once a pass."""
        return self.takes == self.sizes

    def order(self, seed: int, epoch: int, shuffle: bool = True) -> NDArray[np.int64]:
        """(length,) the records of pass `epoch` in their order."""
        starts = np.cumsum([0, *self.sizes])
        parts = [
            starts[place] + self._part(place, seed, epoch, shuffle)
            for place in range(len(self.sizes))
            if self.sizes[place]
        ]
        chosen = np.concatenate(parts)
        if not shuffle:
            return chosen
        return chosen[np.random.default_rng((seed, epoch)).permutation(len(chosen))]

    def counts(self, seed: int, cursor: int, shuffle: bool = True) -> list[int]:
        """Samples of each data set among the first `cursor` places of the run."""
        epochs, rest = divmod(cursor, self.length)
        begun = self.order(seed, epochs, shuffle)[:rest]
        place = np.searchsorted(np.cumsum(self.sizes), begun, side="right")
        partial = np.bincount(place, minlength=len(self.sizes))
        return [epochs * take + int(n) for take, n in zip(self.takes, partial, strict=True)]

    def _part(self, place: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
        """Pass `epoch`'s piece of a data set's own endless sequence, as places in the set."""
        size, take = self.sizes[place], self.takes[place]
        at, end = epoch * take, (epoch + 1) * take
        pieces: list[NDArray[np.int64]] = []
        while at < end:
            round_, start = divmod(at, size)
            stop = min(size, start + end - at)
            whole = np.arange(size)
            if shuffle and stop - start < size:
                whole = np.random.default_rng((FRACTIONS, seed, place, round_)).permutation(size)
            pieces.append(whole[start:stop])
            at += stop - start
        return np.concatenate(pieces)


def one_by_one(sizes: Sequence[int]) -> Mix:
    """Every record once a pass."""
    return Mix(tuple(sizes), (1.0,) * len(sizes))
