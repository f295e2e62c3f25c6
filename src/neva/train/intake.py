"""The data sets of a run, opened and judged first: records, images, what is held out.

Torch-free: a run on data that cannot work ends here, in seconds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neva.data.datasets import Dataset, find_datasets, open_stores
from neva.data.mix import Mix
from neva.data.records import Flaw, Record, data_sha256, scan_records
from neva.data.stores import ImageStore
from neva.errors import DataError
from neva.train.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Intake:
    """What a run learns from. Lists in the order of `datasets`; a record knows which is its own."""

    datasets: tuple[Dataset, ...]
    stores: tuple[ImageStore | None, ...]
    sha256: tuple[str, ...]
    records: list[Record]
    """To learn from, the data sets one after another."""
    validation: list[Record]
    flaws: list[Flaw]

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        data: Sequence[Path | str | Dataset],
        images: Path | str | Sequence[Path | str] | None,
        licences: Sequence[str] = (),
    ) -> "Intake":
        """Read and check all of it; DataError names file, record and remedy."""
        datasets = find_datasets(data, images, licences)
        entries = [
            entry
            for place, one in enumerate(datasets)
            for entry in scan_records(Path(one.path), place)
        ]
        usable = [entry for entry in entries if isinstance(entry, Record)]
        flaws = [entry for entry in entries if isinstance(entry, Flaw)]
        _check_flaws(flaws, len(usable), datasets, recipe)
        stores = open_stores(datasets)
        _check_images(usable, stores)
        held = [_is_held_out(record, recipe) for record in usable]
        learned = [record for record, out in zip(usable, held, strict=True) if not out]
        if not learned:
            raise DataError(f"{datasets[0].path}: no record is left to learn from.")
        made = cls(
            datasets=datasets,
            stores=stores,
            sha256=tuple(data_sha256(Path(one.path)) for one in datasets),
            records=learned,
            validation=[record for record, out in zip(usable, held, strict=True) if out],
            flaws=flaws,
        )
        _check_passes(made.mix.length, recipe)
        return made

    @property
    def mix(self) -> Mix:
        """How often which records are seen."""
        sizes = [0] * len(self.datasets)
        for record in self.records:
            sizes[record.dataset] += 1
        return Mix(tuple(sizes), tuple(one.weight for one in self.datasets))

    def names(self, place: int) -> list[str]:
        """Images that the records of a data set name, learned from or held out."""
        both = (*self.records, *self.validation)
        return [name for record in both if record.dataset == place for name in record.images]


def _is_held_out(record: Record, recipe: Recipe) -> bool:
    """By the record's own id, so that adding data never moves a record to the other side."""
    if recipe.validation_share == 0:
        return False
    digest = hashlib.sha256(f"{record.id}\0{record.images}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < recipe.validation_share * 2**32


def _check_flaws(
    flaws: Sequence[Flaw], usable: int, datasets: Sequence[Dataset], recipe: Recipe
) -> None:
    if len(flaws) > recipe.max_bad_share * (usable + len(flaws)) or not usable:
        where = datasets[flaws[0].dataset].path
        raise DataError(
            f"{where}: {len(flaws)} of {usable + len(flaws)} records cannot be used. The first is "
            f"{flaws[0].id!r} (number {flaws[0].line}): {flaws[0].sentence.rstrip('.')}. Run "
            "`neva check` for the list."
        )


def _check_passes(samples: int, recipe: Recipe) -> None:
    if recipe.max_steps is None and round(samples * recipe.epochs) < 1:
        raise DataError(
            f"{recipe.epochs:g} passes over {samples} samples are less than one sample: nothing "
            "would be learned. Use more --epochs, or --max-steps."
        )


def _check_images(records: Sequence[Record], stores: Sequence[ImageStore | None]) -> None:
    for record in records:
        if record.images and stores[record.dataset] is None:
            raise DataError(
                f"Record {record.id!r} has an image; give the images' folder or archive with "
                "--images."
            )
