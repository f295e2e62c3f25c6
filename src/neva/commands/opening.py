"""A model to measure: a checkpoint in an engine of our own, or a server at a URL."""

import os
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neva.engine.protocol import Engine
from neva.engine.remote import RemoteEngine

ENGINE = "openvino"


def check_choice(
    model: Path | None, url: str | None, name: str | None, engine: str | None, precision: str | None
) -> None:
    """Refuse options that would have no effect, so that nobody believes they had one."""
    if url is None and name is not None:
        raise typer.BadParameter("--name is the model's name at a server: it needs --url")
    if url is None:
        return
    if model is not None:
        raise typer.BadParameter("give --model or --url, not both")
    if engine is not None or precision is not None:
        raise typer.BadParameter("--engine and --precision are of --model; with --url the server's")


def open_model(
    model: Path | None,
    url: str | None,
    name: str | None,
    engine: str | None,
    precision: str | None,
    console: Console,
) -> tuple[Engine, dict[str, Any]]:
    """The engine and the identity that is recorded with a figure."""
    check_choice(model, url, name, engine, precision)
    if url is not None:
        remote = RemoteEngine(url, name, os.environ.get("NEVA_API_KEY"))
        known = {"weights": remote.info.weights} if remote.info.weights else {}
        return remote, {"model": remote.info.name, "url": url, **known}
    from neva.engine import open_engine
    from neva.model.checkpoint import Checkpoint
    from neva.nano import default_checkpoint

    with console.status("Opening the model ..."):
        checkpoint = Checkpoint.open(model or default_checkpoint())
        opened = open_engine(checkpoint, engine or ENGINE, precision)
    return opened, {
        "model": opened.info.name,
        "sha256": checkpoint.sha256,
        "weights": checkpoint.fingerprint,
    }
