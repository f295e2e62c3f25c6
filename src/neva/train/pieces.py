"""A packed row cut where documents end: less is in memory at once, the sums stay the same."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from neva.model.forward import PackedInputs


def pieces(row: PackedInputs, tokens: int, image_token: int) -> Iterator[PackedInputs]:
    """`row` in rows of whole documents, as many of them as fit in `tokens`, at least one."""
    borders: list[int] = row.cu_seqlens.tolist()
    cuts = [0]
    for start, stop in pairwise(borders):
        if stop - cuts[-1] > tokens and start > cuts[-1]:
            cuts.append(start)
    cuts.append(borders[-1])
    if len(cuts) == 2:
        yield row
        return
    pictures = row.features if row.images is None else row.images
    before = (row.ids == image_token).cumsum(0)  # image tokens up to every position
    each = 1 if pictures is None else int(before[-1]) // len(pictures)
    for start, stop in pairwise(cuts):
        first = int(before[start - 1]) // each if start else 0
        yield _piece(row, slice(start, stop), slice(first, int(before[stop - 1]) // each))


def _piece(row: PackedInputs, tokens: slice, pictures: slice) -> PackedInputs:
    inside = (row.cu_seqlens >= tokens.start) & (row.cu_seqlens <= tokens.stop)
    return replace(
        row,
        ids=row.ids[tokens],
        positions=row.positions[tokens],
        cu_seqlens=row.cu_seqlens[inside] - tokens.start,
        supervised=row.supervised[tokens],
        images=_some(row.images, pictures),
        features=_some(row.features, pictures),
    )


def _some(pictures: Tensor | None, wanted: slice) -> Tensor | None:
    """None for a piece of text alone."""
    return None if pictures is None or wanted.start == wanted.stop else pictures[wanted]
