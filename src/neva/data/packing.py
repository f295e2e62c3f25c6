"""Samples -> packed rows: whole samples one after another, documents apart, no padding.

First-fit decreasing: the longest sample first, each into the first row that has room. The same
samples always give the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neva.data.samples import Sample
from neva.errors import DataError


@dataclass(frozen=True, eq=False)
class Pack:
    """One row of T tokens, of whole samples."""

    ids: NDArray[np.int64]
    """(T,) token ids, images expanded."""
    positions: NDArray[np.int64]
    """(T,) from 0 in each document."""
    cu_seqlens: NDArray[np.int32]
    """(documents + 1,) document i is [cu_seqlens[i], cu_seqlens[i + 1])."""
    supervised: NDArray[np.bool_]
    """(T,) targets; never a document's first token, which nothing predicts."""
    image_names: tuple[str, ...]
    """(N,) image names in the order of their tokens."""
    sample_ids: tuple[str, ...]
    """(documents,) whose they are."""
    members: tuple[int, ...]
    """(documents,) their places in what was packed."""

    @property
    def targets(self) -> int:
        """S, the number of supervised tokens."""
        return int(self.supervised.sum())


def pack(samples: Sequence[Sample], row_tokens: int | None = None) -> list[Pack]:
    """Pack samples into rows of at most `row_tokens` (None: one row).

    Raises DataError for a sample that is longer than a row.
    """
    room: list[int] = []
    rows: list[list[int]] = []
    for index in sorted(range(len(samples)), key=lambda i: (-len(samples[i]), i)):
        length = len(samples[index])
        if row_tokens is not None and length > row_tokens:
            raise DataError(
                f"sample {samples[index].id!r} has {length} tokens, more than the {row_tokens} of "
                "a row; make rows longer or samples shorter"
            )
        fits = (row for row, free in enumerate(room) if row_tokens is None or free >= length)
        row = next(fits, len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_tokens or 0)
        rows[row].append(index)
        room[row] -= length
    return [_join(samples, sorted(row)) for row in rows]


def _join(packed: Sequence[Sample], members: list[int]) -> Pack:
    samples = [packed[member] for member in members]
    lengths = [len(sample) for sample in samples]
    ends = np.cumsum([0, *lengths], dtype=np.int32)
    supervised = np.concatenate([np.array(s.encoded.supervised, dtype=np.bool_) for s in samples])
    supervised[ends[:-1]] = False
    return Pack(
        ids=np.concatenate([np.array(s.encoded.ids, dtype=np.int64) for s in samples]),
        positions=np.concatenate([np.arange(length, dtype=np.int64) for length in lengths]),
        cu_seqlens=ends,
        supervised=supervised,
        image_names=tuple(name for sample in samples for name in sample.images),
        sample_ids=tuple(sample.id for sample in samples),
        members=tuple(members),
    )
