"""`neva export`: write a checkpoint in another format."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from neva.commands.terms import with_terms
from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.prompts import TEMPLATES

FORMATS = ("hf",)

CHECKPOINT = typer.Argument(help="A LLaVA checkpoint directory; any naming of its tensors.")
FORMAT = typer.Argument(help="hf: a Hugging Face directory that every transformers version loads.")
OUT = typer.Option("--output", "-o", help="Where to write; must not exist yet.")
ADAPTER = typer.Option("--adapter", help="A LoRA adapter, trained from it, to merge in.")
TEMPLATE = typer.Option(
    "--template",
    help=f"Prompt template of a checkpoint that has no neva.json; the result has one. One of "
    f"{', '.join(TEMPLATES)}.",
)


def export(
    checkpoint: Annotated[Path, CHECKPOINT],
    format: Annotated[str, FORMAT],
    output: Annotated[Path, OUT],
    adapter: Annotated[Path | None, ADAPTER] = None,
    template: Annotated[str | None, TEMPLATE] = None,
) -> None:
    """Write a checkpoint in another format, all or nothing.

    hf: the same weights under the names that transformers 4.57 to 5.23 and vLLM load, in one file
    or shards, with neva.json. It mends checkpoints that a newer transformers saved under names that
    older ones fill with random numbers. With --adapter the result has the adapter merged in. Needs
    no torch without --adapter.

    Example: neva export llava-1.5-7b-hf hf -o model
    """
    if format not in FORMATS:
        raise CheckpointError(
            f"There is no export format {format!r}; choose one of: {', '.join(FORMATS)}."
        )
    source = with_terms(Checkpoint.open(checkpoint, template))
    if adapter is None:
        from neva.model.rewrite import rewrite

        rewrite(source, output)
    else:
        from neva.model.merge import merge_adapter  # torch is imported only now

        merge_adapter(source, adapter, output)
    sys.stdout.write(f"{output}\n")
