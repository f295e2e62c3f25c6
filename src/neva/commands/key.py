"""`neva key`: make, list, limit, rotate and remove API keys. A running server follows the file."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
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
    limit = "limit"
    rotate = "rotate"
    remove = "remove"


class Scope(StrEnum):
    """What a key may be for."""

    ask = "ask"
    metrics = "metrics"


def key(
    action: Action = typer.Argument(help="new, list, limit, rotate or remove."),
    name: str = typer.Argument("", help="Whose key: letters, digits and . @ - _"),
    file: Path = typer.Option(help="The key file, as given to `neva serve --api-key-file`."),
    running: int | None = typer.Option(None, min=1, max=MOST, help="Most answers at once."),
    per_minute: int | None = typer.Option(
        None, min=1, max=MOST, help="Requests a minute; so many may also come at once."
    ),
    only: Scope | None = typer.Option(None, help="What the key is for; everything if left out."),
    grace: float = typer.Option(
        0.0,
        min=0,
        max=TEN_YEARS,
        callback=no_nan,
        help="rotate: hours for which the old key still works.",
    ),
) -> None:
    """Make, list, limit, rotate or remove API keys. A key is printed once, the file has its hash.

    `limit` gives a key new limits and keeps the secret; what is left out stays as it was.

    Example: neva key new alice --file keys.txt --per-minute 60
    """
    if action is Action.list:
        for known in Keys.read(file).keys:
            typer.echo(shown(known))
        return
    if not NAME.fullmatch(name):
        raise NevaError(f"{name!r} cannot be a key's name; use letters, digits and . @ - _")
    file = file.resolve()  # a link stays one, and whoever reads through it sees the change
    secret = new_key()
    made = Key(name, hashed(secret), running, per_minute, only.value if only else None)
    with alone(file):
        there = Keys.read(file).keys if file.exists() or action is not Action.new else ()
        old = next((known for known in there if known.name == name), None)
        if action is Action.new and old is not None:
            raise NevaError(
                f"{file} has a key named {name} already; remove it first, or use {name}-2"
            )
        if action is not Action.new and old is None:
            raise NevaError(f"{file} has no key named {name}; `neva key list` shows them")
        if old is not None and action is Action.rotate:
            made = rotated(old, made.digest, grace)
        if old is not None and action is Action.limit:
            made = limited(old, made)
        write(file, name, None if action is Action.remove else made)
    if action in (Action.new, Action.rotate):
        typer.echo(secret)


def shown(known: Key) -> str:
    """A key for people: the beginning of its hash, and until when the one before it works."""
    line = replace(known, old=None, until=None).line
    line = line.replace(known.digest, f"{known.digest[:8]}...")
    if known.until is None or known.until <= time.time():
        return line
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.until))
    return f"{line} (the key before it works until {moment})"


def rotated(known: Key, digest: str, grace: float) -> Key:
    """A key with another secret, which keeps its limits and whatever belongs to it."""
    old, until = (known.digest, int(time.time() + grace * 3600)) if grace else (None, None)
    return replace(known, digest=digest, old=old, until=until)


def limited(known: Key, given: Key) -> Key:
    """The key with the limits that are given, its others as they were."""
    return replace(
        known,
        running=given.running or known.running,
        per_minute=given.per_minute or known.per_minute,
        only=given.only or known.only,
    )


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """One command at a time: of two that read, and then write, one's key would be lost."""
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write(file: Path, name: str, made: Key | None) -> None:
    """Write the file anew in one step, with `made` in the place of `name`'s line, or without it.

    Other lines and comments stay, and so do owner and mode: the server may be another user. A new
    file is readable by its owner only. NevaError for what could not be read again: one such line
    would lock everybody out.
    """
    if made is not None and Key.parse(made.line) != made:
        raise NevaError(
            f"{name}'s line would not be readable, nothing was changed: "
            f"{made.line.replace(made.digest, '...')}"
        )
    before = file.stat() if file.exists() else None
    lines = file.read_text(encoding="utf-8").splitlines() if before else []
    places = [place for place, line in enumerate(lines) if name_of(line) == name]
    place = places[0] if places else len(lines)
    lines[place : place + 1] = [] if made is None else [made.line]
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        if before is not None:
            with contextlib.suppress(PermissionError):  # only root gives files away
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, before.st_mode & 0o777)
        out.writelines(f"{line}\n" for line in lines)
        out.flush()
        os.fsync(descriptor)
    fresh.replace(file)


def name_of(line: str) -> str | None:
    """Whose key a line of the file is; None for a comment."""
    words = line.split("#", 1)[0].split()
    return words[0] if words else None
