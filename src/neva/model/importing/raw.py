"""Tensors of other people's files that are not read yet, and what becomes of them on the way.

A 7B model is 14 GB, so nothing is read before it is written: a `Raw` knows its shape and type, and
what is made of it (a part, a join, a sum) is a `Raw` again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from neva.errors import CheckpointError
from neva.model.arrays import as_array
from neva.model.stored import Stored

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Raw:
    """One tensor; `read()` gives it. `place` says for error messages where it lies."""

    shape: Shape
    dtype: torch.dtype
    read: Callable[[], Tensor]
    place: str


Raws = Mapping[str, Raw]


def held(tensor: Tensor, place: str) -> Raw:
    """A tensor that is there already (or mapped from its file)."""
    return Raw(tuple(tensor.shape), tensor.dtype, lambda: tensor, place)


def stored(one: Stored) -> Raw:
    """A tensor of a safetensors file."""
    entry = one.entry
    place = f"{entry.file}: {entry.name}"
    return Raw(entry.shape, one.dtype, lambda: one[...], place)


def changed(raw: Raw, shape: Shape, change: Callable[[Tensor], Tensor]) -> Raw:
    """What `change` makes of it, which has this shape."""
    return replace(raw, shape=shape, read=lambda: change(raw.read()))


def joined(pieces: Sequence[Raw], dim: int) -> Raw:
    """Several side by side along an axis; one alone is itself."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    shape = list(first.shape)
    shape[dim] = sum(piece.shape[dim] for piece in pieces)
    return replace(
        first,
        shape=tuple(shape),
        dtype=common_dtype(pieces),
        read=lambda: torch.cat([piece.read() for piece in pieces], dim),
    )


def rows(raw: Raw, start: int, stop: int) -> Raw:
    """Rows [start, stop)."""
    return changed(raw, (stop - start, *raw.shape[1:]), lambda tensor: tensor[start:stop])


def common_dtype(tensors: Sequence[Raw]) -> torch.dtype:
    """The smallest type that holds every number of all of them (float16 and bfloat16: float32)."""
    return reduce(torch.promote_types, (one.dtype for one in tensors))


class Arrays(Mapping[str, Any]):
    """Tensors as numpy arrays of one type, each read when it is asked for and not kept."""

    def __init__(self, tensors: Raws, names: Sequence[str], dtype: torch.dtype) -> None:
        self.tensors, self.names, self.dtype = tensors, names, dtype

    def __getitem__(self, name: str) -> Any:
        raw = self.tensors[name]
        tensor = raw.read()
        written = tensor.to(self.dtype)
        if tensor.dtype != self.dtype and written.isinf().any() and tensor.isfinite().all():
            kind = str(self.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{raw.place} has numbers too large for {kind}, the type of the other weights; "
                "convert those to float32 or bfloat16 first."
            )
        return as_array(written)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
