"""What the stream hands to training: batches of packed rows with their pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neva.data.packing import Pack, pack
from neva.data.samples import Sample
from neva.data.stores import ImageStore
from neva.images import Limits, PixelRecipe


@dataclass(frozen=True, eq=False)
class Picture:
    """One image as training sees it: the square, or features that were cached."""

    digest: str
    square: NDArray[np.uint8] | None = None
    """(H, W, 3)"""
    features: NDArray[Any] | None = None
    """(P, Dv)"""


class Pictures(Protocol):
    """Where pictures come from, by the name in the record. Called from several threads."""

    def __call__(self, name: str) -> Picture:
        """The picture, all of them with a square or all with features. Raises NevaError."""
        ...


@dataclass(frozen=True)
class PreparedImages:
    """Pictures out of a store, read and made into squares."""

    store: ImageStore
    recipe: PixelRecipe
    limits: Limits = Limits()  # noqa: RUF009

    def __call__(self, name: str) -> Picture:
        """The square of an image. Raises ImageError, naming the file."""
        image = self.store.read(name, self.limits)
        return Picture(image.digest, self.recipe.square(image))


@dataclass(frozen=True)
class Problem:
    """A sample that cannot be used, and why."""

    sample: str
    sentence: str
    file: str | None = None
    """The image at fault, by its name in the record."""
    record: int = -1
    """Its place among the stream's records."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A sample with its pictures, one for each of `sample.images`."""

    sample: Sample
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, eq=False)
class Row(Pack):
    """A packed row with its pictures, in the order of their tokens; text only: neither."""

    images: NDArray[np.uint8] | None
    """(N, H, W, 3) squares, as `PixelRecipe.square` makes them."""
    features: NDArray[Any] | None
    """(N, P, Dv) from a cache, instead of squares."""
    image_digests: tuple[str, ...]
    """(N,) keys of the images in caches."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One rank's share of one optimiser step. No rows if all its samples were broken."""

    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    epoch: float
    """Passes over the data when this step is done."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Every sample of the batch."""
        return tuple(id for row in self.rows for id in row.sample_ids)

    @property
    def targets(self) -> int:
        """S, supervised tokens in all rows."""
        return sum(row.targets for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(len(row.ids) for row in self.rows)


def make_batch(entries: Sequence[Loaded | Problem], row_tokens: int | None, epoch: float) -> Batch:
    """Pack what was loaded; keep what was not as problems."""
    loaded = [entry for entry in entries if isinstance(entry, Loaded)]
    problems = tuple(entry for entry in entries if isinstance(entry, Problem))
    packs = pack([entry.sample for entry in loaded], row_tokens)
    return Batch(tuple(_row(packed, loaded) for packed in packs), problems, epoch)


def _row(packed: Pack, loaded: Sequence[Loaded]) -> Row:
    pictures = [picture for member in packed.members for picture in loaded[member].pictures]
    squares = [picture.square for picture in pictures if picture.square is not None]
    features = [picture.features for picture in pictures if picture.features is not None]
    return Row(
        **vars(packed),
        images=np.stack(squares) if squares else None,
        features=np.stack(features) if features else None,
        image_digests=tuple(picture.digest for picture in pictures),
    )
