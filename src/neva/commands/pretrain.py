"""`neva pretrain`: stage 1, in which only the projector learns."""

from pathlib import Path
from typing import Annotated, Any

import typer

from neva.commands.recipe_options import with_recipe_options
from neva.commands.training import train

CHECKPOINT = typer.Argument(
    help="A checkpoint directory: of `neva compose` or `neva import`, or a run's final."
)
DATA = typer.Option(
    "--data",
    help="FILE[:WEIGHT] in LLaVA's JSON, WebDataset shards, or a mix file; give it again to add.",
    metavar="FILE[:WEIGHT]",
)
IMAGES = typer.Option(
    "--images",
    help="Where image names start from: a folder, a .tar or .zip (read without unpacking), "
    "shards-{000..009}.tar; PREFIX=PLACE for names under PREFIX/; may be repeated.",
    metavar="[PREFIX=]PLACE",
)
OUT = typer.Option("--output", "-o", help="Run folder; the checkpoint will be in RUN/final.")
RECIPE = typer.Option("--recipe", help="Start from a published recipe; `neva plan` lists them.")
LICENCE = typer.Option(
    "--licence", help="Licence of the data, kept in the checkpoint's neva.json; one, or one a file."
)
PROBE = typer.Option("--probe", help="JSON list of {image, question, answer} to ask as it learns.")
RESUME = typer.Option("--resume", help="Go on with the run in the folder, exactly where it was.")


@with_recipe_options("pretrain")
def pretrain(
    checkpoint: Annotated[Path, CHECKPOINT],
    data: Annotated[list[str], DATA],
    output: Annotated[Path, OUT],
    images: Annotated[list[str] | None, IMAGES] = None,
    recipe: Annotated[str | None, RECIPE] = None,
    resume: Annotated[bool, RESUME] = False,
    licence: Annotated[list[str] | None, LICENCE] = None,
    probe: Annotated[Path | None, PROBE] = None,
    **values: Any,
) -> None:
    """Stage 1: teach the projector to show the LM what CLIP sees. CLIP and LM stay as they are.

    Reads captions in LLaVA's JSON ([{"id", "image", "conversations": [{"from", "value"}]}]), writes
    RUN/final (a checkpoint), RUN/metrics.jsonl and RUN/report.html. Ctrl-C or SIGTERM saves and
    stops; the same command with --resume goes on, bit for bit.

    Example: neva pretrain model --data chat.json --images images -o run1 --batch-size 32
    """
    train("pretrain", checkpoint, data, images, output, recipe, resume, licence, probe, values)
