"""`neva cache`: compute the frozen CLIP's features of a data set before a run needs them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from neva.commands.check import progress_bar, read_entries
from neva.commands.pretrain import DATA, IMAGES
from neva.data import Dataset, Record, find_datasets
from neva.data.datasets import open_stores
from neva.data.stores import ImageStore
from neva.errors import DataError, NevaError
from neva.train.recipe import Precision

CHECKPOINT = typer.Argument(help="The checkpoint whose vision tower looks.")
PRECISION = typer.Option("--precision", help="As in training: auto, bf16 or fp32.")
BATCH = typer.Option("--batch-size", help="Images at a time.", min=1)
WORKERS = typer.Option("--workers", help="Threads that decode images.", min=1)


def cache(
    checkpoint: Annotated[Path, CHECKPOINT],
    data: Annotated[list[str], DATA],
    images: Annotated[list[str] | None, IMAGES] = None,
    precision: Annotated[str, PRECISION] = "auto",
    batch_size: Annotated[int, BATCH] = 32,
    workers: Annotated[int, WORKERS] = 2,
) -> None:
    """Cache the features that pretrain and finetune would compute; says the disk space first.

    May be stopped and started again. Broken images are listed, and the exit code is 1.

    Example: neva cache model --data chat.json --images images
    """
    if precision not in get_args(Precision):
        raise NevaError(f"--precision is {precision!r}: use auto, bf16 or fp32.")
    datasets = find_datasets(data, images)
    wanted = names_by_store(datasets)
    if not wanted:
        raise DataError("the data has no images, or no place is given for them with --images")
    problems = _fill(checkpoint, wanted, cast(Precision, precision), batch_size, workers)
    for sentence in problems:
        typer.echo(sentence)
    if problems:
        raise typer.Exit(1)


def names_by_store(datasets: Sequence[Dataset]) -> list[tuple[ImageStore, list[str]]]:
    """Every image store, and the names that records have in it."""
    stores = open_stores(datasets)
    found: dict[int, tuple[ImageStore, list[str]]] = {}
    for entry in read_entries(datasets):
        store = stores[entry.dataset]
        if store is not None and isinstance(entry, Record) and entry.images:
            found.setdefault(id(store), (store, []))[1].extend(entry.images)
    return list(found.values())


def _fill(
    checkpoint: Path,
    wanted: Sequence[tuple[ImageStore, list[str]]],
    precision: Precision,
    batch_size: int,
    workers: int,
) -> list[str]:
    """Fill the cache; a sentence for every image that cannot be read."""
    import torch  # only now: what is wrong with the files is told without it
    from transformers.utils.logging import disable_progress_bar

    from neva.model import Checkpoint
    from neva.train.features import cached_features
    from neva.train.precision import chosen, dtype_of
    from neva.train.tower import Tower

    disable_progress_bar()
    parent = Checkpoint.open(checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tower = Tower(parent, device, dtype_of(chosen(precision, device)))
    problems: list[str] = []

    def say(sentence: str) -> None:
        typer.echo(sentence, err=True)

    for store, names in wanted:
        with progress_bar("Caching") as progress:
            filled = cached_features(
                tower,
                store,
                names,
                say,
                batch_size=batch_size,
                workers=workers,
                progress=progress,
            )
        problems.extend(filled.broken.values())
        say(f"{len(filled.cache):,} images in {filled.cache.folder}")
    return problems
