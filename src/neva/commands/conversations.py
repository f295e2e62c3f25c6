"""`neva conversations`: what a server has stored, for its operator: list, export, delete."""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from neva.commands.serve import data_folder
from neva.errors import NevaError
from neva.server.database import open_database
from neva.server.file_store import FileStore
from neva.server.settings import Limits
from neva.server.store import Holding, Store


class Action(StrEnum):
    """What to do."""

    list = "list"
    export = "export"
    delete = "delete"


Data = Annotated[
    Path | None, typer.Option(help="The server's folder.", show_default="as in neva serve")
]
StoreUrl = Annotated[
    str | None, typer.Option(help="The server's PostgreSQL URL, as in neva serve.")
]
Owner = Annotated[
    str, typer.Argument(help="Whose: a key's name; 'local' on a server without keys.")
]


def conversations(
    action: Annotated[Action, typer.Argument(help="list, export or delete.")],
    owner: Owner = "",
    data: Data = None,
    store: StoreUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="list: a JSON object a line.")] = False,
) -> None:
    """List, export or delete what a server has stored; a running server may go on.

    Exported are JSON lines: responses with their input, then uploaded files. Deleted are both.

    Example: neva conversations export alice > alice.jsonl
    """
    file = (data or data_folder()) / "responses.sqlite"
    if store is None and not file.exists():
        raise NevaError(f"there is no store {file}; name the server's --data or --store")
    with closing(open_database(store or file)) as database:
        kept, files = Store(database), FileStore(database, Limits())
        if action is Action.list:
            show(kept.owners(), files.owners(), as_json)
            return
        if not owner:
            raise NevaError("say whose conversations; `neva conversations list` shows the names")
        act = export if action is Action.export else delete
        if not act(kept, files, owner):
            raise NevaError(
                f"nothing of {owner} is stored; `neva conversations list` shows the names"
            )


def export(kept: Store, files: FileStore, owner: str) -> bool:
    """Print all of an owner's, oldest first; whether there was anything."""
    lines = 0
    for one in kept.export(owner):
        typer.echo(json.dumps({"input": one.said, "response": one.answer}))
        lines += 1
    for file in reversed(files.of(owner)):
        data = base64.b64encode(files.data(owner, file.id)).decode("ascii")
        typer.echo(json.dumps({"file": file.as_dict(), "data": data}))
        lines += 1
    return lines > 0


def delete(kept: Store, files: FileStore, owner: str) -> bool:
    """Forget all of an owner's; whether there was anything."""
    responses, pictures = kept.delete_all(owner), files.delete_all(owner)
    if not responses and not pictures:
        return False
    typer.echo(f"deleted {counted(responses, 'response')} and {counted(pictures, 'file')}")
    return True


def show(held: list[Holding], files: dict[str, int], as_json: bool) -> None:
    """Who keeps how much, since when and until when: a table, or a JSON object a line."""
    nobody = {name: Holding(name, 0, 0, 0.0, 0.0) for name in files}
    every = sorted((nobody | {one.owner: one for one in held}).values(), key=lambda one: one.owner)
    if as_json:
        for one in every:
            told = {"owner": one.owner, "conversations": one.threads, "responses": one.responses}
            times = {"latest": one.latest or None, "expires": one.expires or None}
            typer.echo(json.dumps({**told, "files": files.get(one.owner, 0), **times}))
        return
    if not every:
        typer.echo("nothing is stored")
        return
    head = ("owner", "conversations", "responses", "files", "last answer", "first to expire")
    rows: list[tuple[str, ...]] = [head]
    for one in every:
        counts = map(str, (one.threads, one.responses, files.get(one.owner, 0)))
        rows.append((one.owner, *counts, moment(one.latest), moment(one.expires)))
    for line in aligned(rows):
        typer.echo(line)


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Lines with the first column to the left and the others to the right, nothing cut off."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, others, strict=True))
        yield "  ".join((name.ljust(first), *right))


def moment(seconds: float) -> str:
    """A time of the epoch in this machine's zone; a dash for none."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "-"


def counted(count: int, noun: str) -> str:
    """3 responses, 1 file."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
