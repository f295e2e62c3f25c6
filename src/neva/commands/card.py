"""`neva card`: write a checkpoint's model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from neva.deploy import card as cards
from neva.errors import DataError
from neva.evaluate.files import read_json
from neva.evaluate.report import write_whole
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint

RESULT_FIELDS = ("task", "asked", "metrics", "floor", "questions", "of", "interval_95")


def card(
    checkpoint: Path | None = typer.Argument(None, help="The default model if left out."),
    result: list[Path] = typer.Option([], help="A JSON file of `neva eval`; repeatable."),
    notes: Path | None = typer.Option(
        None,
        help="What only the maker can say: a JSON object with name, description, licence and "
        "fields ({subcard: {field: response}}).",
    ),
    output: Path | None = typer.Option(None, "--output", "-o", help="File; stdout if left out."),
) -> None:
    """Write a model card from what a checkpoint and its evaluations hold."""
    opened = Checkpoint.open(checkpoint or default_checkpoint())
    results = [read_result(path) for path in result]
    text = cards.card(opened, results, read_notes(notes, opened.path.name))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)


def read_result(path: Path) -> Mapping[str, Any]:
    """A result of `neva eval`."""
    found = read_json(path)
    if not isinstance(found, dict) or any(name not in found for name in RESULT_FIELDS):
        raise DataError(f"{path} is not a result of `neva eval`; write one with --json.")
    return found


def read_notes(path: Path | None, name: str) -> cards.Notes:
    """The maker's notes; the name is the checkpoint's folder's where they give none."""
    if path is None:
        return cards.Notes(name)
    found = read_json(path)
    try:
        notes = cards.Notes(**({"name": name} | found))
    except TypeError:
        raise DataError(f"{path}: only name, description, licence and fields are known.") from None
    unknown = set(notes.fields or {}) - set(cards.SUBCARDS)
    if unknown:
        known = ", ".join(cards.SUBCARDS)
        raise DataError(f"{path}: no subcard {sorted(unknown)[0]!r}; there are {known}.")
    return notes
