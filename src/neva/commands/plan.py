"""`neva plan`: what a published recipe needs on given hardware, before anything is bought."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from neva.commands.numbers import no_nan
from neva.errors import NevaError
from neva.train.plan import GIB, Placement, placements, trainable, work
from neva.train.plan_cpu import cpu_placements
from neva.train.recipe import Recipe
from neva.train.recipes import COURSES, Course

LEAST, MOST = 0.001, 1_000_000  # bounds beyond all hardware, within which no figure overflows
RECIPE = typer.Argument(help="A recipe's name; none lists them.")
GPUS = typer.Option("--gpus", help="Number of devices.", min=1, max=MOST)
CPU = typer.Option("--cpu", help="One process on a CPU instead of GPUs.")
MEMORY = typer.Option(
    "--memory",
    help="GiB of one device; unset: 80, or with --cpu what this machine has.",
    min=LEAST,
    max=MOST,
    callback=no_nan,
)
TFLOPS = typer.Option(
    "--tflops",
    help="Peak bfloat16 TFLOP/s of one device; unset: 989 (H100), or with --cpu 1 (measured: two "
    "cores of an EPYC with AVX512 bf16).",
    min=LEAST,
    max=MOST,
    callback=no_nan,
)
MFU = typer.Option(
    "--mfu", help="Share of the peak that training reaches.", min=LEAST, max=1, callback=no_nan
)
SAMPLES = typer.Option(
    "--samples", help="Records per epoch; unset: the published data's.", min=1, max=10**12
)
LORA = typer.Option("--lora", help="Stage 2 with an adapter instead of the whole LM.")
QLORA = typer.Option("--qlora", help="Stage 2 with an adapter over an LM in 4 bits.")
JSON = typer.Option("--json", help="One JSON object on stdout.")


def plan(
    recipe: Annotated[str | None, RECIPE] = None,
    gpus: Annotated[int, GPUS] = 1,
    cpu: Annotated[bool, CPU] = False,
    memory: Annotated[float | None, MEMORY] = None,
    tflops: Annotated[float | None, TFLOPS] = None,
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

    Example: neva plan neva-nano --cpu --memory 8
    """
    if recipe is None:
        typer.echo("\n".join(f"{name:16} {course.source}" for name, course in COURSES.items()))
        return
    if recipe not in COURSES:
        raise NevaError(f"No recipe is called {recipe!r}; the recipes are {', '.join(COURSES)}.")
    course = COURSES[recipe]
    second = course.finetune.with_values(lora=lora or qlora or None, qlora=qlora or None)
    if cpu and (gpus > 1 or qlora):
        raise NevaError("--cpu plans one process; leave out --gpus and --qlora.")
    there = Hardware.of(gpus, cpu, memory, tflops, mfu)
    stages = [_stage(course, stage, there, samples) for stage in (course.pretrain, second)]
    if as_json:
        typer.echo(json.dumps({"recipe": recipe, "stages": stages}, indent=2))
        return
    assumed = "; its shape is assumed, the publisher gives none" if course.shape.assumed else ""
    typer.echo(f"{recipe}: {course.shape.parameters / 1e9:.2f}B parameters{assumed}")
    typer.echo(f"{course.source}")
    for found in stages:
        _show(found, there)


@dataclass(frozen=True)
class Hardware:
    """What the training may use. `memory` in bytes and `flops` a second are of one device."""

    devices: int
    cpu: bool
    memory: float
    flops: float
    mfu: float

    @classmethod
    def of(
        cls, gpus: int, cpu: bool, memory: float | None, tflops: float | None, mfu: float
    ) -> "Hardware":
        """From the options, and what stands for those that are not given."""
        if memory is None:
            here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB if cpu else 80.0
            memory = round(here, 1)
        return cls(gpus, cpu, memory * GIB, (tflops or (1.0 if cpu else 989.0)) * 1e12, mfu)

    def placements(self, course: Course, recipe: Recipe) -> Iterator[Placement]:
        """Ways to run the stage on it, the fastest first."""
        if self.cpu:
            return cpu_placements(course.shape, recipe)
        return placements(course.shape, recipe, self.devices)


def _stage(course: Course, recipe: Recipe, there: Hardware, samples: int | None) -> dict[str, Any]:
    """Everything about one stage."""
    first, second = course.samples
    published = first if recipe.stage == "pretrain" else second
    ways = list(there.placements(course, recipe))
    fits = next((way for way in ways if way.memory.total <= there.memory), None)
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
        "hours": todo.hours(there.devices, there.flops, there.mfu),
        "fits": fits.name if fits else None,
        "options": fits.options if fits else None,
        "placements": {way.name: _gibs(way) for way in ways},
    }


def _gibs(way: Placement) -> dict[str, float]:
    parts = {name: round(value / GIB, 2) for name, value in vars(way.memory).items()}
    return {**parts, "total": round(way.memory.total / GIB, 2)}


def _show(found: dict[str, Any], there: Hardware) -> None:
    gpus = there.devices
    typer.echo(
        f"\n{found['stage']}: {found['trainable'] / 1e6:,.1f}M parameters learn; "
        f"{found['steps']:,} steps of {found['batch_size']} at {found['learning_rate']:g}; "
        f"{_scaled(found['tokens'])} tokens, {_scaled(found['flops'])}FLOP, "
        f"{found['hours']:.1f} h on {'a CPU' if there.cpu else gpus}"
    )
    for name, parts in found["placements"].items():
        mark = "*" if name == found["fits"] else " "
        words = ", ".join(f"{part} {gib:.1f}" for part, gib in parts.items())
        typer.echo(f" {mark} {name}: {words} GiB")
    if found["fits"] is None:
        typer.echo(
            f"   nothing fits in {there.memory / GIB:g} GiB: more devices, --lora or a shorter row"
        )
    else:
        start = f"torchrun --nproc-per-node {gpus} -m neva" if gpus > 1 else "neva"
        words = " ".join(f"--{asked}" for asked in ("lora", "qlora") if found[asked])
        typer.echo(f"   * {start} {found['stage']} ... {words} {found['options']}".rstrip())


def _scaled(count: float) -> str:
    """Three digits and the unit's prefix: 2.25 G."""
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:,.0f}"
