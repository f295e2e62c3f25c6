"""`neva eval TASK`: measure a model by a benchmark, greedy, and write figures with their proof."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from neva.commands.opening import check_choice, open_model
from neva.commands.places import check_places
from neva.evaluate import TASKS, Judged, Report, read
from neva.evaluate import evaluate as run_task
from neva.evaluate.baseline import blind
from neva.evaluate.page import page
from neva.evaluate.report import columns, rows, write_json, write_whole
from neva.evaluate.runner import Watch
from neva.evaluate.task import choose

TaskName = StrEnum("TaskName", {name: name for name in TASKS})  # type: ignore[misc]
QUIET_S = 30.0


class Without(StrEnum):
    """What the model is deprived of."""

    none = "none"
    text = "text"
    shuffled = "shuffled"


Model = Annotated[Path | None, typer.Option(help="Checkpoint; the default model if left out.")]
Url = Annotated[
    str | None,
    typer.Option(help="An OpenAI-compatible server instead of a checkpoint (key: $NEVA_API_KEY)."),
]
Served = Annotated[str | None, typer.Option(help="With --url: the model's name there.")]
Data = Annotated[Path | None, typer.Option(help="Folder with the benchmark's files.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only so many questions, at even distances over the set.")
]
Baseline = Annotated[
    Without, typer.Option(help="Ask without the picture (text), or with another's (shuffled).")
]
Beside = Annotated[
    list[Without],
    typer.Option(
        help="Also run these baselines; their figures stand beside the score. Repeatable."
    ),
]
Suffix = Annotated[
    str | None,
    typer.Option(
        help=r"What follows every question, instead of the task's own (\n is a line break)."
    ),
]
System = Annotated[str | None, typer.Option(help="System text instead of the template's.")]
EngineName = Annotated[
    str | None, typer.Option(help="Engine for --model: openvino (if left out) or torch.")
]
PrecisionName = Annotated[
    str | None, typer.Option(help="Engine precision (openvino: int8), see `neva serve --help`.")
]
InFlight = Annotated[int, typer.Option(min=1, max=1024, help="Requests under way at once.")]
Figures = Annotated[Path | None, typer.Option(help="Write the figures and every answer here.")]
Page = Annotated[Path | None, typer.Option(help="Write a page (HTML) to look at here.")]


def evaluate(
    task: Annotated[TaskName, typer.Argument(help="The benchmark.")],
    model: Model = None,
    url: Url = None,
    name: Served = None,
    data: Data = None,
    limit: Limit = None,
    baseline: Baseline = Without.none,
    beside: Beside = [],  # noqa: B006  typer makes a list of its own
    suffix: Suffix = None,
    system: System = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    in_flight: InFlight = 16,
    json: Figures = None,
    report: Page = None,
) -> None:
    """Ask every question of a benchmark and print the score; a run that was cut off goes on.

    Example: neva eval vqav2 --data vqav2 --model stage2/final --json vqav2.json --report page.html
    """
    check_choice(model, url, name, engine, precision)
    check_places(json, report)
    chosen = TASKS[task.value]
    items = read(chosen, data)
    runs = [baseline, *(other for other in dict.fromkeys(beside) if other is not baseline)]
    for run in runs:
        blind(choose(items, limit), run.value)  # refuses what it cannot ask
    console = Console(stderr=True, highlight=False)
    opened, identity = open_model(model, url, name, engine, precision, console)
    told = None if suffix is None else suffix.replace("\\n", "\n")
    how = {"suffix": told, "system": system, "in_flight": in_flight, "model": identity}
    partials = {run: partial_of(json, run) for run in runs}
    reports: dict[Without, Report] = {}
    with closing(opened), resumable(json, console):
        for run, kept in partials.items():
            asked: dict[str, Any] = {"items": items, "baseline": run.value, "partial": kept, **how}
            with Watcher(chosen.name, run, console) as watch:
                reports[run] = run_task(chosen, opened, limit, watch=watch, **asked)
    others = {run.value: one.metrics for run, one in reports.items() if run is not baseline}
    result = replace(reports[baseline], beside=others)
    try:
        show(result, Console(highlight=False))  # first: writing may fail, and a pipe be broken
    finally:
        write(result, json, report, partials.values())


@contextmanager
def resumable(json: Path | None, console: Console) -> Iterator[None]:
    """Say at Ctrl-C that what was answered is kept, if it is."""
    try:
        yield
    except KeyboardInterrupt:
        if json is not None:
            console.print("stopped; the same command goes on from here")
        raise


def write(
    result: Report, json: Path | None, report: Path | None, partials: Iterable[Path | None]
) -> None:
    """The figures and the page; the answers kept for a cut-off run are not needed any more."""
    if json is not None:
        write_json(result, json)
    if report is not None:
        write_whole(report, page(result))
    for kept in partials:
        if kept is not None:
            kept.unlink(missing_ok=True)


def partial_of(json: Path | None, run: Without) -> Path | None:
    """Where a run's answers are kept until the result is whole."""
    if json is None:
        return None
    kind = "" if run is Without.none else f".{run.value}"
    return json.with_name(f"{json.name}{kind}.partial.jsonl")


class Watcher:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, task: str, run: Without, console: Console) -> None:
        self.credit = 0.0
        self.count = 0
        self.console = console
        self.spoken = time.monotonic()
        self.bar = Progress(
            TextColumn(task if run is Without.none else f"{task} {run.value}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[score]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.line = self.bar.add_task(task, total=None, score="")

    def __enter__(self) -> Watch:
        self.bar.start()
        return self.see

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def see(self, judged: Judged, total: int) -> None:
        """Count one answer."""
        self.count += 1
        self.credit += judged.credit
        score = f"{100 * self.credit / self.count:.1f}% so far"
        self.bar.update(self.line, completed=self.count, total=total, score=score)
        if not self.console.is_terminal and time.monotonic() - self.spoken > QUIET_S:
            self.spoken = time.monotonic()
            self.console.print(f"{self.count} of {total} answered, {score}")


def show(result: Report, console: Console) -> None:
    """The table of figures."""
    low, high = result.interval
    without = result.asked["baseline"]
    title = f"{result.task}" + ("" if without == "none" else f", baseline {without}")
    table = Table(*columns(result), title=title, title_justify="left")
    for line in rows(result):
        table.add_row(*line)
    console.print(table)
    fresh = len(result.judged) - result.resumed
    rate = fresh / max(result.seconds, 1e-9)
    console.print(
        f"{len(result.judged)} of {result.total} questions, {fresh} of them now in "
        f"{result.seconds:.1f} s ({rate:.1f}/s), mean credit {low:.1f} to {high:.1f} (95%), "
        f"suffix {result.asked['suffix']!r}, {result.errors} could not be asked",
        soft_wrap=True,
    )
