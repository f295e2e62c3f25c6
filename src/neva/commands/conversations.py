"""`neva conversations`: what a server has stored, for its operator: list, export, delete."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

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


Data = Annotated[Path | None, typer.Option(help="The server's folder [default: as neva serve].")]
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

    Exported are JSON lines on stdout: of each response input and response, of each uploaded file
    its data and its bytes in base64. Deleted are the responses and the files.
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
        if action is Action.export:
            for line in exported(kept, files, owner):
                typer.echo(json.dumps(line))
            return
        responses, pictures = kept.delete_all(owner), files.delete_all(owner)
    if not responses and not pictures:
        raise NevaError(f"nothing of {owner} is stored; `neva conversations list` shows the names")
    typer.echo(f"deleted {counted(responses, 'response')} and {counted(pictures, 'file')}")


def exported(kept: Store, files: FileStore, owner: str) -> Iterator[dict[str, Any]]:
    """All of an owner's, oldest first."""
    for one in kept.export(owner):
        yield {"input": one.said, "response": one.answer}
    for file in reversed(files.of(owner)):
        data = base64.b64encode(files.data(owner, file.id)).decode("ascii")
        yield {"file": file.as_dict(), "data": data}


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
    table = Table("owner", box=None, pad_edge=False)
    for column in ("conversations", "responses", "files", "last answer", "first to expire"):
        table.add_column(column, justify="right")
    for one in every:
        counts = (one.threads, one.responses, files.get(one.owner, 0))
        table.add_row(one.owner, *map(str, counts), moment(one.latest), moment(one.expires))
    Console(highlight=False, soft_wrap=True).print(table)


def moment(seconds: float) -> str:
    """A time of the epoch in this machine's zone; a dash for none."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "-"


def counted(count: int, noun: str) -> str:
    """3 responses, 1 file."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
