"""`neva plan`: what a published recipe needs on given hardware, before anything is bought."""

import json
from typing import Annotated, Any

import typer

from neva.errors import NevaError
from neva.train.plan import GIB, Placement, placements, trainable, work
from neva.train.recipe import Recipe
from neva.train.recipes import COURSES, Course

RECIPE = typer.Argument(help="A recipe's name; none lists them.")
GPUS = typer.Option("--gpus", help="Number of devices.", min=1)
MEMORY = typer.Option("--memory", help="GiB of one device.")
TFLOPS = typer.Option("--tflops", help="Peak bfloat16 TFLOP/s of one device (H100: 989).")
MFU = typer.Option("--mfu", help="Share of the peak that training reaches.")
SAMPLES = typer.Option("--samples", help="Records per epoch; unset: the published data's.")
LORA = typer.Option("--lora", help="Stage 2 with an adapter instead of the whole LM.")
QLORA = typer.Option("--qlora", help="Stage 2 with an adapter over an LM in 4 bits.")
JSON = typer.Option("--json", help="One JSON object on stdout.")


def plan(
    recipe: Annotated[str | None, RECIPE] = None,
    gpus: Annotated[int, GPUS] = 1,
    memory: Annotated[float, MEMORY] = 80.0,
    tflops: Annotated[float, TFLOPS] = 989.0,
    mfu: Annotated[float, MFU] = 0.45,
    samples: Annotated[int | None, SAMPLES] = None,
    lora: Annotated[bool, LORA] = False,
    qlora: Annotated[bool, QLORA] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """State parameters, memory by part, tokens, FLOPs, placement and hours of both stages.

    Arithmetic, not a measurement: text lengths are assumed to be LLaVA's, and the hours hang on
    --mfu.

    Example: neva plan llava-v1.5-7b --gpus 8 --memory 80
    """
    if recipe is None:
        typer.echo("\n".join(f"{name:16} {course.source}" for name, course in COURSES.items()))
        return
    if recipe not in COURSES:
        raise NevaError(f"No recipe is called {recipe!r}; the recipes are {', '.join(COURSES)}.")
    course = COURSES[recipe]
    second = course.finetune.with_values(lora=lora or qlora or None, qlora=qlora or None)
    stages = [
        _stage(course, stage, gpus, memory, tflops, mfu, samples)
        for stage in (course.pretrain, second)
    ]
    if as_json:
        typer.echo(json.dumps({"recipe": recipe, "stages": stages}, indent=2))
        return
    assumed = "; its shape is assumed, the publisher gives none" if course.shape.assumed else ""
    typer.echo(f"{recipe}: {course.shape.parameters / 1e9:.2f}B parameters{assumed}")
    typer.echo(f"{course.source}")
    for found in stages:
        _show(found, gpus, memory)


def _stage(
    course: Course,
    recipe: Recipe,
    gpus: int,
    memory: float,
    tflops: float,
    mfu: float,
    samples: int | None,
) -> dict[str, Any]:
    """Everything about one stage."""
    first, second = course.samples
    published = first if recipe.stage == "pretrain" else second
    ways = list(placements(course.shape, recipe, gpus))
    fits = next((way for way in ways if way.memory.total <= memory * GIB), None)
    chosen = recipe.with_values(**(fits.changes if fits else {}))
    todo = work(course.shape, chosen, samples or published or 20_000)
    return {
        "stage": recipe.stage,
        "lora": recipe.lora,
        "qlora": recipe.qlora,
        "trainable": trainable(course.shape, recipe),
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "steps": todo.steps,
        "samples": todo.samples,
        "tokens": todo.tokens,
        "flops": todo.samples * todo.flops,
        "hours": todo.hours(gpus, tflops * 1e12, mfu),
        "fits": fits.name if fits else None,
        "options": fits.options if fits else None,
        "placements": {way.name: _gibs(way) for way in ways},
    }


def _gibs(way: Placement) -> dict[str, float]:
    parts = {name: round(value / GIB, 2) for name, value in vars(way.memory).items()}
    return {**parts, "total": round(way.memory.total / GIB, 2)}


def _show(found: dict[str, Any], gpus: int, memory: float) -> None:
    typer.echo(
        f"\n{found['stage']}: {found['trainable'] / 1e6:,.1f}M parameters learn; "
        f"{found['steps']:,} steps of {found['batch_size']} at {found['learning_rate']:g}; "
        f"{found['tokens'] / 1e9:.2f}B tokens, {found['flops'] / 1e18:.2f} EFLOP, "
        f"{found['hours']:.1f} h on {gpus}"
    )
    for name, parts in found["placements"].items():
        mark = "*" if name == found["fits"] else " "
        words = ", ".join(f"{part} {gib:.1f}" for part, gib in parts.items())
        typer.echo(f" {mark} {name}: {words} GiB")
    if found["fits"] is None:
        typer.echo(f"   nothing fits in {memory:g} GiB: more devices, --lora or a shorter row")
    else:
        start = f"torchrun --nproc-per-node {gpus} -m neva.cli" if gpus > 1 else "neva"
        words = " ".join(f"--{asked}" for asked in ("lora", "qlora") if found[asked])
        typer.echo(f"   * {start} {found['stage']} ... {words} {found['options']}".rstrip())
