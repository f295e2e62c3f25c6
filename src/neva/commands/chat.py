"""`neva chat`: one answer about a picture, or a conversation on the terminal.

Answers stream to stdout and nothing else goes there, so that a pipe gets the answer alone.
"""

import json as jsonlib
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neva.commands.talk import Talk, put, utf8
from neva.commands.terms import with_terms
from neva.engine import open_engine
from neva.engine.protocol import Chunk, Engine, Request, Sampling
from neva.errors import NevaError
from neva.images import RGBImage, read_image
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from neva.prompts import ask


def chat(
    image: str | None = typer.Argument(None, help="A picture's file; - reads it from stdin."),
    question: str | None = typer.Argument(None, help="Left out: a conversation follows."),
    model: Path | None = typer.Option(None, help="Checkpoint; the default model if left out."),
    engine: str = typer.Option("openvino", help="Engine: openvino or torch."),
    precision: str | None = typer.Option(
        None, help="Engine precision (openvino: int8), see `neva serve --help`."
    ),
    temperature: float = typer.Option(0.2, min=0.0, max=2.0, help="0 is greedy."),
    top_p: float = typer.Option(0.7, min=0.0, max=1.0, help="Nucleus of the sampling."),
    max_tokens: int | None = typer.Option(
        None, min=1, help="Where an answer is cut.", show_default="1024, or half the context"
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same answer."),
    system: str | None = typer.Option(None, help="System text instead of the template's."),
    json: bool = typer.Option(False, help="One JSON object instead of the streaming text."),
) -> None:
    """Ask about a picture, once or in a conversation.

    Example: neva chat cat.jpg "What is this?" --json
    """
    if json and question is None:
        raise typer.BadParameter("--json needs a question")
    if image == "-" and question is None:
        raise typer.BadParameter("a picture from stdin needs a question on the command line")
    check_open(reads=question is None or image == "-")
    for text, what in ((question, "the question"), (system, "the system text")):
        utf8(text or "", what)
    picture = None if image is None else look(image)
    console = Console(stderr=True, highlight=False)
    start = time.perf_counter()
    with console.status("Opening the model ..."):
        checkpoint = with_terms(Checkpoint.open(model or default_checkpoint()))
        opened = open_engine(checkpoint, engine, precision)
    with closing(opened):
        most = max_tokens or min(Sampling.max_tokens, max(1, opened.info.context // 2))
        sampling = Sampling(temperature, top_p, most, seed)
        if question is None or picture is None:
            if not Talk(opened, sampling, system, console).run(picture):
                raise typer.Exit(1)
            return
        request = Request(ask(question, system=system), (picture,), sampling)
        if json:
            typer.echo(jsonlib.dumps(answer_json(opened, request, start), ensure_ascii=False))
        else:
            finish(answer(opened, request))


def check_open(reads: bool) -> None:
    """NevaError where a shell has closed (`>&-`) what is needed; Python has None in its place."""
    if sys.stdout is None:
        raise NevaError("stdout is closed, and the answer goes there: leave out >&-")
    if reads and sys.stdin is None:
        raise NevaError("stdin is closed, and the questions or the picture come from there")


def look(name: str) -> RGBImage:
    """The picture of that file, or from stdin."""
    if name == "-":
        return read_image(sys.stdin.buffer.read())
    return read_image(Path(name))


def answer(engine: Engine, request: Request) -> tuple[str, Chunk]:
    """Stream the answer to stdout; cancel it when interrupted. (text, last chunk)."""
    stream = engine.generate([request])[0]
    text, last = "", Chunk("")
    try:
        for last in stream:
            text += last.text
            put(last.text)
    except (KeyboardInterrupt, OSError):  # the user, or a pipe that nobody reads any more
        stream.cancel()
        raise
    typer.echo()
    return text, last


def finish(answered: tuple[str, Chunk]) -> None:
    """Exit with 1 where the engine failed; say on stderr where an answer was cut."""
    _, last = answered
    if last.finish == "error":
        typer.echo(f"neva: {last.error}", err=True)
        raise typer.Exit(1)
    if last.finish == "length":
        typer.echo("(cut: --max-tokens or the model's context is reached)", err=True)


def answer_json(engine: Engine, request: Request, start: float) -> dict[str, Any]:
    """The answer with its figures, for a program; `start` is when the command began."""
    ready = time.perf_counter()
    text, last, first = "", Chunk(""), None
    for last in engine.generate([request])[0]:
        if first is None and last.text:
            first = time.perf_counter()
        text += last.text
    if last.finish == "error":
        finish((text, last))
    usage = last.usage
    return {
        "model": engine.info.name,
        "engine": engine.info.engine,
        "precision": engine.info.precision,
        "answer": text,
        "finish": last.finish,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "seconds": {
            "load": round(ready - start, 3),
            "first_token": round((first or time.perf_counter()) - ready, 3),
            "total": round(time.perf_counter() - start, 3),
        },
    }
