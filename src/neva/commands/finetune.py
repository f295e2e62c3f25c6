"""`neva finetune`: stage 2, in which the projector and the language model learn."""

from pathlib import Path
from typing import Annotated, Any

from neva.commands.pretrain import CHECKPOINT, DATA, IMAGES, LICENCE, OUT, PROBE, RECIPE, RESUME
from neva.commands.recipe_options import with_recipe_options
from neva.commands.training import train


@with_recipe_options("finetune")
def finetune(
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
    """Stage 2: teach projector and LM to answer about images. CLIP stays as it is.

    Start from stage 1's RUN/final. With --lora the LM learns through a small adapter, which is
    kept in RUN/adapter and merged into RUN/final.

    Example: neva finetune run1/final --data instruct.json --images images -o run2 --lora
    """
    train("finetune", checkpoint, data, images, output, recipe, resume, licence, probe, values)
