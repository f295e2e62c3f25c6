"""`neva demo`: the newcomer's first minute. Ask the default model about the sample picture."""

import time
from importlib import resources
from pathlib import Path

import typer
from rich.console import Console

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling
from neva.images import read_image
from neva.nano import default_checkpoint
from neva.prompts import ask

QUESTIONS = ("What is this?", "What color is it?", "Is there a circle?")


def demo(
    precision: str | None = typer.Option(
        None, help="Engine precision (openvino: int8), see `neva serve --help`."
    ),
) -> None:
    """Ask the default model about a sample picture, then show where to go next."""
    console = Console(stderr=True, highlight=False)
    start = time.perf_counter()
    picture = Path(str(resources.files("neva.nano") / "sample.png"))
    with console.status("Preparing the default model (the first run builds its graphs) ..."):
        engine = open_engine(default_checkpoint(), "openvino", precision)
    console.print(f"[bold]neva-nano[/] ready after {time.perf_counter() - start:.1f} s\n")
    image = read_image(picture)
    for question in QUESTIONS:
        console.print(f"[cyan]{picture.name}[/] > {question}")
        request = Request(ask(question), (image,), Sampling(temperature=0.0, max_tokens=80))
        for chunk in engine.generate([request])[0]:
            typer.echo(chunk.text, nl=False)
        typer.echo()
    engine.close()
    console.print(NEXT.format(picture=picture))


NEXT = """
[bold]Next[/]
  your own picture   .venv/bin/neva chat PICTURE "What is this?"
  a conversation     .venv/bin/neva chat PICTURE
  serve              .venv/bin/neva serve   (page and API on http://127.0.0.1:8000)
  train your own     README.md, "Train your own" """
