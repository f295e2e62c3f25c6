"""`neva bench`: how fast a model or a server answers, as one table and one JSON object."""

import json as jsonlib
import secrets
from contextlib import closing
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from neva.commands.opening import open_model
from neva.commands.places import check_places
from neva.evaluate.machine import machine
from neva.evaluate.report import write_whole
from neva.evaluate.speed import SCENARIOS, Work, benchmark
from neva.images import Limits

Scenario = StrEnum("Scenario", {name: name for name in SCENARIOS})  # type: ignore[misc]
WIDTH = 120
PIXELS = Limits().pixels


def bench(
    model: Path | None = typer.Option(None, help="Checkpoint; the default model if left out."),
    url: str | None = typer.Option(
        None, help="An OpenAI-compatible server instead of a checkpoint (key: $NEVA_API_KEY)."
    ),
    name: str | None = typer.Option(None, help="With --url: the model's name there."),
    engine: str | None = typer.Option(
        None, help="Engine for --model: openvino (if left out) or torch."
    ),
    precision: str | None = typer.Option(
        None, help="Engine precision (openvino: int8), see `neva serve --help`."
    ),
    concurrency: list[int] = typer.Option([1, 8], min=1, help="Requests under way; repeatable."),
    scenario: list[Scenario] = typer.Option(
        list(Scenario), help="What is asked; repeatable, all if left out."
    ),
    requests: int = typer.Option(16, min=1, help="Answers per scenario and concurrency, at least."),
    width: int = typer.Option(640, min=1, help="Width of the pictures."),
    height: int = typer.Option(480, min=1, help="Height of the pictures."),
    max_tokens: int = typer.Option(64, min=1, help="Where an answer is cut."),
    seed: int | None = typer.Option(
        None, min=0, help="Of the pictures; drawn anew if left out, so that no server knows them."
    ),
    json: Path | None = typer.Option(None, help="Write the figures here."),
) -> None:
    """Time to first token, between tokens and to the end, and tokens a second.

    Example: neva bench --url http://127.0.0.1:8000 --concurrency 1 --concurrency 32
    """
    check_size(width, height)
    check_places(json)
    console = Console(stderr=True, highlight=False)
    opened, identity = open_model(model, url, name, engine, precision, console)
    seed = secrets.randbelow(10**9) if seed is None else seed
    work = Work(width, height, max_tokens, seed)
    info = opened.info
    asked = {**identity, "engine": info.engine, "precision": info.precision}
    size = {"width": width, "height": height, "max_tokens": max_tokens, "seed": seed}
    plan = list(product(dict.fromkeys(scenario), dict.fromkeys(concurrency)))
    results: list[dict[str, Any]] = []
    try:
        with closing(opened):
            for chosen, under_way in plan:
                with console.status(f"{chosen.value}, {under_way} under way ..."):
                    count = max(requests, 2 * under_way)
                    results.append(benchmark(opened, work, chosen.value, under_way, count))
    finally:  # the server may have failed at the last of them, or somebody pressed Ctrl-C
        if results:
            whole = len(results) == len(plan)
            found = {"asked": asked | size, "machine": machine(), "complete": whole}
            left = "" if whole else f", {len(results)} of {len(plan)} measured"
            title = f"{info.name}, {info.engine} {info.precision}{left}"
            tell(title, found | {"results": results}, json)


def tell(title: str, found: dict[str, Any], json: Path | None) -> None:
    """Print the table and write the figures, though the table's reader may have left."""
    wide = Console(highlight=False)
    if not wide.is_terminal:
        wide = Console(highlight=False, width=WIDTH)  # a file has no edge
    try:
        wide.print(table(found["results"], title))
    finally:
        if json is not None:
            write_whole(json, jsonlib.dumps(found, indent=1) + "\n")


def check_size(width: int, height: int) -> None:
    """Refuse pictures that no server of ours would take, before memory runs out over them."""
    if width * height > PIXELS:
        raise typer.BadParameter(f"--width times --height may be {PIXELS:,} pixels at most")


def table(results: list[dict[str, Any]], title: str) -> Table:
    """Milliseconds as p50 / p95 / p99."""
    shown = Table(
        "scenario", "under way", "ttft ms", "itl ms", "total ms", "tokens/s", "requests/s",
        title=title, title_justify="left", caption="p50 / p95 / p99", box=SIMPLE,
    )  # fmt: skip
    for one in results:
        times = [spread(one[name]) for name in ("ttft_ms", "itl_ms", "total_ms")]
        told = one["tokens_per_s"]
        tokens = "not told" if told is None else f"{told:.1f}"
        rates = tokens, f"{one['requests_per_s']:.2f}"
        shown.add_row(one["scenario"], str(one["concurrency"]), *times, *rates)
    return shown


def spread(times: dict[str, float]) -> str:
    """Three percentiles, or nothing of nothing; of seconds no tenths, so that a line holds them."""
    shown = [times[key] for key in ("p50", "p95", "p99")] if times else []
    return " / ".join(f"{one:.1f}" if one < 1000 else f"{one:.0f}" for one in shown)
