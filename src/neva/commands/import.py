"""`neva import`: read a checkpoint of LLaVA's own or of NeMo's into ours.

The verb is a word of Python's, so this module can only be imported by its name as text.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from neva.commands.compose import misfit
from neva.commands.ending import cleaned_up
from neva.prompts import TEMPLATES

SOURCE = typer.Argument(
    help="A folder or hub name of LLaVA's own layout (a whole model, a stage 1 projector, a LoRA "
    "adapter), or a .nemo archive of NeVA."
)
OUT = typer.Option("--output", "-o", help="Where to write the checkpoint; must not exist yet.")
VISION = typer.Option(
    "--vision",
    help="The CLIP, a directory or hub name, instead of the one that the source names.",
)
LANGUAGE = typer.Option(
    "--language",
    help="The language model, a directory or hub name: its tokenizer is taken (of NeMo's archives "
    "always) and, where the source has no weights of it, its weights.",
)
TEMPLATE = typer.Option(
    "--template",
    help=f"The prompt template that it was trained with. One of {', '.join(TEMPLATES)}.",
)


def import_checkpoint(
    source: Annotated[str, SOURCE],
    output: Annotated[Path, OUT],
    vision: Annotated[str | None, VISION] = None,
    language: Annotated[str | None, LANGUAGE] = None,
    template: Annotated[str | None, TEMPLATE] = None,
) -> None:
    """Make a checkpoint of one that LLaVA's own code or NeMo has written, all or nothing.

    The weights keep their numbers; what neva does not wholly understand is refused. Pickles are
    read for their tensors only and never run.

    Example: neva import llava-v1.5-7b --vision clip-vit-l-14-336 --template v1 -o model
    """
    from neva.model.importing.door import import_checkpoint as take_in  # torch, only now

    with cleaned_up():
        imported = take_in(source, output, vision, language, template)
    for note in imported.notes:
        typer.echo(f"{source}: {note}.", err=True)
    checkpoint = imported.checkpoint
    if warning := misfit(checkpoint.template, checkpoint.tokenizer, checkpoint.image_token_id):
        typer.echo(f"Warning: {warning}", err=True)
    typer.echo(
        f"{checkpoint.image_tokens} image tokens of id {checkpoint.image_token_id}, a context of "
        f"{checkpoint.context}, template {checkpoint.provenance.template}, {checkpoint.dtype}.",
        err=True,
    )
    sys.stdout.write(f"{output}\n")
