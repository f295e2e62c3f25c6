"""`neva cache`: compute the frozen CLIP's features of a data set before a run needs them."""

from pathlib import Path
from typing import Annotated

import typer

from neva.data.records import Record, scan_records
from neva.errors import DataError, NevaError
from neva.train.recipe import Precision

CHECKPOINT = typer.Argument(help="The checkpoint whose vision tower looks.")
DATA = typer.Option("--data", help="Training file; may be repeated.")
IMAGES = typer.Option("--images", help="Folder that the records' image names start from.")
PRECISION = typer.Option("--precision", help="What training will compute in: bf16 or fp32.")
BATCH = typer.Option("--batch-size", help="Images at a time.", min=1)


def cache(
    checkpoint: Annotated[Path, CHECKPOINT],
    data: Annotated[list[Path], DATA],
    images: Annotated[Path, IMAGES],
    precision: Annotated[str, PRECISION] = "bf16",
    batch_size: Annotated[int, BATCH] = 32,
) -> None:
    """Cache the features that pretrain and finetune would compute; says the disk space first.

    May be stopped and started again. Broken images are listed, and the exit code is 1.

    Example: neva cache model --data chat.json --images images
    """
    if precision not in ("bf16", "fp32"):
        raise NevaError(f"--precision is {precision!r}: use bf16 or fp32.")
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; give the images' folder with --images.")
    entries = [entry for path in data for entry in scan_records(path)]
    names = [name for entry in entries if isinstance(entry, Record) for name in entry.images]
    problems = _fill(
        checkpoint, images, names, "fp32" if precision == "fp32" else "bf16", batch_size
    )
    for sentence in problems:
        typer.echo(sentence)
    if problems:
        raise typer.Exit(1)


def _fill(
    checkpoint: Path, images: Path, names: list[str], precision: Precision, batch_size: int
) -> list[str]:
    """Fill the cache; a sentence for every image that cannot be read."""
    import torch  # only now: what is wrong with the files is told without it
    from transformers.utils.logging import disable_progress_bar

    from neva.model import Checkpoint
    from neva.model.load import load_model
    from neva.train.features import cached_features

    disable_progress_bar()
    parent = Checkpoint.open(checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(parent, device, torch.bfloat16 if precision == "bf16" else torch.float32)

    def say(sentence: str) -> None:
        typer.echo(sentence, err=True)

    cached, problems = cached_features(model, parent, images, names, say, batch_size)
    say(f"{len(cached):,} images in {cached.folder}")
    return [problem.sentence for problem in problems]
