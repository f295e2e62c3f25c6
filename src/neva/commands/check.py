"""`neva check`: is this training data whole? Every problem, before a run and not in the middle."""

import json as json_format
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neva.commands.pretrain import DATA, IMAGES
from neva.data import Dataset, Encoding, Flaw, Record, find_datasets, scan_records
from neva.data.check import CheckReport
from neva.data.check import check as check_entries
from neva.data.datasets import open_stores
from neva.errors import DataError
from neva.model import Checkpoint
from neva.prompts import TEMPLATES

SHOWN = 20

MODEL = typer.Option("--model", help="Checkpoint whose tokenizer and template count the tokens.")
TEMPLATE = typer.Option("--template", help="With --model: another template (plain for stage 1).")
LENGTH = typer.Option(
    "--max-length",
    min=1,
    help="With --model: longest sample in tokens; the model's context at most.",
)
JSON = typer.Option("--json", help="Write the whole report here.")
WORKERS = typer.Option("--workers", min=1, help="Threads that decode images and count tokens.")


def check(
    data: Annotated[list[str], DATA],
    images: Annotated[list[str] | None, IMAGES] = None,
    model: Annotated[Path | None, MODEL] = None,
    template: Annotated[str | None, TEMPLATE] = None,
    max_length: Annotated[int, LENGTH] = 2048,
    json: Annotated[Path | None, JSON] = None,
    workers: Annotated[int, WORKERS] = 2,
) -> None:
    """Verify training records and their images; exit code 1 if there are problems.

    Example: neva check --data chat.json --images images --model model
    """
    check_places(json)
    encoding = open_encoding(model, template, max_length)
    datasets = find_datasets(data, images)
    entries = read_entries(datasets)
    stores = open_stores(datasets)
    names = [one.name for one in datasets]
    with progress_bar("Checking") as progress:
        report = check_entries(
            entries, stores, encoding, names=names, workers=workers, progress=progress
        )
    if json is not None:
        json.write_text(json_format.dumps(report.to_json(), indent=1), encoding="utf-8")
    typer.echo(describe(report))
    if not report.ok:
        raise typer.Exit(1)


def check_places(*places: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    for place in places:
        if place is not None and not place.absolute().parent.is_dir():
            raise DataError(f"{place.absolute().parent} does not exist; make that folder first")


def read_entries(datasets: Sequence[Dataset]) -> list[Record | Flaw]:
    """The records of all data sets, and what is wrong with the others."""
    return [
        entry for place, one in enumerate(datasets) for entry in scan_records(Path(one.path), place)
    ]


def open_encoding(model: Path | None, template: str | None, max_length: int) -> Encoding | None:
    """How a checkpoint turns records into tokens; None without a checkpoint."""
    if model is None:
        if template is not None:
            raise typer.BadParameter("--template needs --model, whose tokenizer counts tokens")
        return None
    checkpoint = Checkpoint.open(model)
    if template is not None and template not in TEMPLATES:
        raise DataError(f"there is no template {template!r}; known are {', '.join(TEMPLATES)}")
    return Encoding(
        TEMPLATES[template] if template else checkpoint.template,
        checkpoint.tokenizer,
        checkpoint.image_token_id,
        checkpoint.image_tokens,
        min(max_length, checkpoint.context),  # as a run cuts
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; yields the function to call with (done, total)."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def describe(report: CheckReport) -> str:
    """The report for people."""
    lines = [
        f"{report.records:,} records ({report.text_only:,} without images), "
        f"{report.images:,} image files"
    ]
    if report.smallest and report.largest:
        sizes = [f"{width} x {height}" for width, height in (report.smallest, report.largest)]
        lines.append(f"images from {sizes[0]} to {sizes[1]} pixels")
    if report.lengths and report.lengths.samples:
        told = report.lengths
        share = 100 * told.supervised / max(1, told.tokens)
        lines.append(
            f"{told.tokens:,} tokens, {share:.1f}% of them learned; longest sample "
            f"{told.longest:,}; {told.cut:,} samples are cut"
        )
    if len(report.datasets) > 1:
        for one in report.datasets:
            lines.append(f"{one.name}: {one.records:,} records, {one.broken:,} broken")
    for problem in report.problems[:SHOWN]:
        lines.append(f"  {problem.sample}: {problem.sentence}")
    if len(report.problems) > SHOWN:
        lines.append(f"  ... and {len(report.problems) - SHOWN:,} more; --json lists all")
    if report.ok:
        lines.append("No problems.")
    else:
        count = len(report.problems)
        lines.append(f"{count:,} problems in {report.broken:,} records; a run would skip these.")
    return "\n".join(lines)
