"""`neva key`: make, list, rotate and remove API keys. A running server follows the file."""

import os
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import typer

from neva.commands.numbers import no_nan
from neva.errors import NevaError
from neva.server.auth import NAME, Key, Keys, hashed, new_key

MOST = 10**9
TEN_YEARS = 87_600.0  # hours


class Action(StrEnum):
    """What to do."""

    new = "new"
    list = "list"
    rotate = "rotate"
    remove = "remove"


class Scope(StrEnum):
    """What a key may be for."""

    ask = "ask"
    metrics = "metrics"


def key(
    action: Action = typer.Argument(help="new, list, rotate or remove."),
    name: str = typer.Argument("", help="Whose key: letters, digits and . @ - _"),
    file: Path = typer.Option(help="The key file, as given to `neva serve --api-key-file`."),
    running: int | None = typer.Option(None, min=1, max=MOST, help="Most requests at once."),
    per_minute: int | None = typer.Option(None, min=1, max=MOST, help="Most requests a minute."),
    only: Scope | None = typer.Option(None, help="What the key is for; everything if left out."),
    grace: float = typer.Option(
        0.0,
        min=0,
        max=TEN_YEARS,
        callback=no_nan,
        help="rotate: hours for which the old key still works.",
    ),
) -> None:
    """Make, list, rotate or remove API keys. A key is printed once; the file holds its hash only.

    Example: neva key new alice --file keys.txt --per-minute 60
    """
    keys = Keys.read(file).keys if file.exists() or action is not Action.new else ()
    if action is Action.list:
        for known in keys:
            typer.echo(known.line.replace(known.digest, f"{known.digest[:8]}..."))
        return
    if not NAME.fullmatch(name):
        raise NevaError(f"{name!r} cannot be a key's name; use letters, digits and . @ - _")
    rest = tuple(known for known in keys if known.name != name)
    if action is not Action.new and len(rest) == len(keys):
        raise NevaError(f"{file} has no key named {name}; `neva key list` shows them")
    if action is Action.remove:
        write(file, rest)
        return
    if action is Action.rotate:
        typer.echo(rotated(file, keys, name, grace))
        return
    if len(rest) < len(keys):
        raise NevaError(f"{file} has a key named {name} already; remove it first, or use {name}-2")
    secret = new_key()
    made = Key(name, hashed(secret), running, per_minute, only.value if only else None)
    write(file, (*keys, made))
    typer.echo(secret)


def rotated(file: Path, keys: tuple[Key, ...], name: str, grace: float) -> str:
    """A new secret for `name`, which keeps its limits and whatever belongs to it."""
    secret, until = new_key(), int(time.time() + grace * 3600)

    def turned(known: Key) -> Key:
        old = (known.digest, until) if grace else (None, None)
        return replace(known, digest=hashed(secret), old=old[0], until=old[1])

    write(file, tuple(turned(known) if known.name == name else known for known in keys))
    return secret


def write(file: Path, keys: tuple[Key, ...]) -> None:
    """Write the file anew, readable by its owner only, in one step.

    NevaError for what could not be read again: one such line would lock everybody out.
    """
    wrong = next((known for known in keys if Key.parse(known.line) != known), None)
    if wrong is not None:
        raise NevaError(
            f"{wrong.name}'s line would not be readable, nothing was changed: "
            f"{wrong.line.replace(wrong.digest, '...')}"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.writelines(f"{known.line}\n" for known in keys)
    fresh.replace(file)
