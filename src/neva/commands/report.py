"""`neva report`: a run on one page, from the files of its folder."""

from pathlib import Path
from typing import Annotated

import typer

from neva.train.report import write_report

RUN = typer.Argument(help="A run folder: what -o named for `neva pretrain` or `neva finetune`.")
OUT = typer.Option("--output", "-o", help="Write the page here instead of in the run folder.")


def report(run: Annotated[Path, RUN], output: Annotated[Path | None, OUT] = None) -> None:
    """Write RUN/report.html anew: plots, answers, trouble, data, recipe and environment.

    A run writes it itself, at every probe and checkpoint and at its end. The page is one file that
    fetches nothing. It works on a run that goes on or was killed, and needs no torch.

    Example: neva report run1
    """
    typer.echo(write_report(run, output))
