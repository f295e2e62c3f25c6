"""What `neva pretrain` and `neva finetune` share: the recipe in force, the run, the last words."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from neva.errors import NevaError
from neva.train.folder import check_free, recorded_recipe
from neva.train.recipe import Recipe, Stage
from neva.train.recipes import DEFAULTS
from neva.train.recipes import recipe as published


def train(
    stage: Stage,
    checkpoint: Path,
    data: list[str],
    images: list[str] | None,
    output: Path,
    name: str | None,
    resume: bool,
    licences: list[str] | None,
    probe: Path | None,
    values: Mapping[str, Any],
) -> None:
    """Run one stage and print where its checkpoint is; exit 128 + signal when it was stopped."""
    check_free(output, resume)
    going_on = resume and (output / "recipe.json").is_file()
    recipe = resolve(stage, name, recorded_recipe(output) if going_on else None, values)
    # torch is imported only now, after the options are checked.
    from transformers.utils.logging import disable_progress_bar

    from neva.train.loop import run

    disable_progress_bar()  # one bar on the terminal is enough
    summary = run(recipe, checkpoint, data, images, output, resume, licences or (), probe)
    if summary.stopped_by:
        words = f"Stopped by {summary.stopped_by} after step {summary.steps}"
        typer.echo(f"{words}; the same command with --resume goes on.", err=True)
        raise typer.Exit(128 + summary.stop_signal)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks
        return
    typer.echo(summary.sentence, err=True)
    sys.stdout.write(f"{summary.final}\n")


def resolve(
    stage: Stage, name: str | None, recorded: Recipe | None, values: Mapping[str, Any]
) -> Recipe:
    """The recipe in force: the recorded or published one, changed by the options given."""
    try:
        base = published(name, stage) if name else recorded or DEFAULTS[stage]
        if recorded is not None and recorded.stage != stage:
            raise ValueError(f"this run is a {recorded.stage} run; use `neva {recorded.stage}`")
        if values.get("epochs") is not None:
            if values.get("max_steps") is not None:
                raise ValueError("--epochs and --max-steps both say how long it learns: give one")
            base = dataclasses.replace(base, max_steps=None)  # a recipe's own steps would win
        return base.with_values(**values)
    except ValueError as error:
        raise NevaError(f"Recipe: {error}.") from error
