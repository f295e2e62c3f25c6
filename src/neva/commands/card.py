"""`neva card`: write a checkpoint's model card, with its chart and contact sheets."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neva.commands.places import check_places
from neva.deploy import card as cards
from neva.deploy.beside import gather
from neva.deploy.chart import draw_chart
from neva.deploy.notes import read_notes
from neva.deploy.sheet import contact_sheet, save_sheet
from neva.errors import DataError
from neva.evaluate import TASKS, read
from neva.evaluate.files import read_json
from neva.evaluate.report import write_whole
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from neva.nano.manifest import WEIGHTS

CARD_NOTES = WEIGHTS.parent / "card_notes.json"
RESULT_FIELDS = ("task", "asked", "metrics", "floor", "questions", "of", "interval_95")
ASKED_FIELDS = ("suffix", "engine", "precision")


def card(
    checkpoint: Path | None = typer.Argument(None, help="The default model if left out."),
    result: list[Path] = typer.Option(
        [],
        help="A JSON file of `neva eval`; repeatable. A task's baselines stand beside its score.",
    ),
    notes: Path | None = typer.Option(
        None,
        help="What only the maker can say, a JSON object; the default model's come with it.",
    ),
    sheet: list[str] = typer.Option(
        [],
        metavar="TASK[=DIR]",
        help="With --output: a contact sheet of a result's hits and misses, from the task's "
        "files (as --data of `neva eval`); repeatable.",
    ),
    tiles: int = typer.Option(
        18, min=1, max=200, help="Most hits, and most misses, of a contact sheet."
    ),
    picture: list[str] = typer.Option(
        [],
        metavar="TITLE=FILE",
        help="With --output: a picture to show with the evaluation; repeatable.",
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="File, pictures beside it; stdout, no pictures, if left out."
    ),
) -> None:
    """Write a model card from what a checkpoint and its evaluations hold.

    Example: neva card stage2/final --result vqav2.json --notes notes.json -o card.md
    """
    check_places(output)
    if (sheet or picture) and output is None:
        raise DataError("--sheet and --picture need a card that is a file; give --output too.")
    given = [read_result(path) for path in result]
    opened = Checkpoint.open(checkpoint or default_checkpoint())
    results = gather(given, {"sha256": opened.sha256, "weights": opened.fingerprint})
    known = read_notes(notes or (None if checkpoint else CARD_NOTES), opened.path.name)
    if output is None:
        typer.echo(cards.card(opened, results, known), nl=False)
        return
    pictures = [
        *chart(results, output),
        *(titled(each, output) for each in picture),
        *(one_sheet(each, tiles, results, output) for each in sheet),
    ]
    write_whole(output, cards.card(opened, results, known, pictures))


def chart(results: Sequence[Mapping[str, Any]], output: Path) -> list[tuple[str, str]]:
    """The bars beside the card; nothing without results, a remark without matplotlib."""
    path = output.with_name(f"{output.stem}.figures.png")
    if draw_chart(results, path):
        return [("Figures beside their baselines", path.name)]
    if results:
        Console(stderr=True, highlight=False).print(
            "no chart: it needs matplotlib (pip install matplotlib)"
        )
    return []


def titled(wish: str, output: Path) -> tuple[str, str]:
    """A picture that is there, by its place from the card."""
    title, _, name = wish.partition("=")
    if not name or not Path(name).is_file():
        raise DataError(f"--picture {wish}: give TITLE=FILE, an existing picture.")
    place = os.path.relpath(Path(name).absolute(), output.absolute().parent)
    return title, Path(place).as_posix()


def one_sheet(
    wish: str, tiles: int, results: Sequence[Mapping[str, Any]], output: Path
) -> tuple[str, str]:
    """A contact sheet beside the card, of the task's first result with its pictures."""
    name, _, folder = wish.partition("=")
    found = [
        one for one in results
        if one["task"] == name and one["asked"].get("baseline", "none") == "none"
    ]  # fmt: skip
    if not found or name not in TASKS:
        raise DataError(f"--sheet {wish}: no result of {name} with its pictures; give --result.")
    items = read(TASKS[name], Path(folder) if folder else None)
    path = output.with_name(f"{output.stem}.{name}.png")
    save_sheet(contact_sheet(found[0], items, tiles), path)
    return f"Hits and misses of {name}", path.name


def read_result(path: Path) -> Mapping[str, Any]:
    """A result of `neva eval`."""
    found = read_json(path)
    if not isinstance(found, dict) or not is_result(found):
        raise DataError(f"{path} is not a result of `neva eval`; write one with --json.")
    return found


def is_result(found: Mapping[str, Any]) -> bool:
    """Has it what a card tells: how it was asked, and figures that are numbers?"""
    if any(name not in found for name in RESULT_FIELDS):
        return False
    asked, beside = found["asked"], found.get("beside", {})
    if not all(isinstance(one, dict) for one in (asked, beside)):
        return False
    tables = [found["metrics"], found["floor"], *beside.values()]
    return all(name in asked for name in ASKED_FIELDS) and all(
        isinstance(one, dict) and all(isinstance(value, int | float) for value in one.values())
        for one in tables
    )
