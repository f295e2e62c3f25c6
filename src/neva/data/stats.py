"""Lengths and supervised shares of training samples: the numbers behind `row_tokens` and the loss.

In stage 1 a few tokens in a hundred are learned; in stage 2 lengths differ a hundredfold. Both
decide how long a run takes, and both are cheap to know before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neva.data.records import Record
from neva.data.samples import Encoding, encode_record
from neva.errors import DataError

QUANTILES = (0, 10, 50, 90, 99, 100)


@dataclass(frozen=True, eq=False)
class Stats:
    """Per sample, in the order of the records; `broken` records are left out."""

    lengths: NDArray[np.int64]
    """(samples,) tokens, images expanded."""
    supervised: NDArray[np.int64]
    """(samples,) targets."""
    images: NDArray[np.int64]
    """(samples,) images."""
    broken: int

    @property
    def share(self) -> float:
        """Supervised tokens of all tokens."""
        return float(self.supervised.sum() / max(1, self.lengths.sum()))

    def to_json(self) -> dict[str, Any]:
        """Sums and quantiles as plain values."""
        return {
            "samples": len(self.lengths),
            "broken": self.broken,
            "tokens": int(self.lengths.sum()),
            "supervised": int(self.supervised.sum()),
            "supervised_share": self.share,
            "images": int(self.images.sum()),
            "length_quantiles": _quantiles(self.lengths),
            "supervised_quantiles": _quantiles(self.supervised),
        }


def measure(
    records: Sequence[Record],
    encoding: Encoding,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Stats:
    """Encode every record and measure it. Raises DataError if none can be used."""
    rows: list[tuple[int, int, int]] = []
    for done, record in enumerate(records, start=1):
        try:
            sample = encode_record(record, encoding)
        except DataError:
            pass  # counted below; `neva check` says why
        else:
            targets = sum(sample.encoded.supervised)
            rows.append((len(sample), targets, len(sample.images)))
        progress(done, len(records))
    if not rows:
        raise DataError("no record can be used; run `neva check` to see why")
    lengths, supervised, images = np.array(rows, dtype=np.int64).T
    return Stats(lengths, supervised, images, len(records) - len(rows))


def _quantiles(values: NDArray[np.int64]) -> dict[str, int]:
    found = np.percentile(values, QUANTILES, method="nearest")
    return {f"{quantile}%": int(value) for quantile, value in zip(QUANTILES, found, strict=True)}
