"""`neva conversations`: what a server has stored, for its operator: list, export, delete."""

import json
from enum import StrEnum
from pathlib import Path

import typer

from neva.commands.serve import data_folder
from neva.errors import NevaError
from neva.server.database import open_database
from neva.server.store import Store


class Action(StrEnum):
    """What to do."""

    list = "list"
    export = "export"
    delete = "delete"


def conversations(
    action: Action = typer.Argument(help="list, export or delete."),
    owner: str = typer.Argument("", help="Whose: a key's name; 'local' on a server without keys."),
    data: Path | None = typer.Option(None, help="The server's folder [default: as neva serve]."),
    store: str | None = typer.Option(None, help="The server's PostgreSQL URL, as in neva serve."),
) -> None:
    """A running server may go on. Exported are JSON lines on stdout: input and response."""
    file = (data or data_folder()) / "responses.sqlite"
    if store is None and not file.exists():
        raise NevaError(f"there is no store {file}; name the server's --data or --store")
    kept = Store(open_database(store or file))
    try:
        if action is Action.list:
            for name, count in kept.owners():
                typer.echo(f"{name} {count}")
            return
        if not owner:
            raise NevaError("say whose conversations; `neva conversations list` shows the names")
        if action is Action.delete:
            typer.echo(kept.delete_all(owner))
            return
        for one in kept.export(owner):
            typer.echo(json.dumps({"input": one.said, "response": one.answer}))
    finally:
        kept.close()
