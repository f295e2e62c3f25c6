"""Judge: benchmarks, their metrics, and the runner that asks an engine their questions."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neva.engine.protocol import Engine
from neva.errors import EngineError
from neva.evaluate.baseline import Baseline, blind
from neva.evaluate.easy_vqa import EasyVQA
from neva.evaluate.gqa import GQA
from neva.evaluate.mme import MME
from neva.evaluate.openmoji import OpenMoji
from neva.evaluate.partial import Partial
from neva.evaluate.pope import POPE
from neva.evaluate.report import Report
from neva.evaluate.runner import Asking, Watch, run, unwatched
from neva.evaluate.scenes import Scenes
from neva.evaluate.scienceqa import ScienceQA
from neva.evaluate.seed_bench import SeedBench
from neva.evaluate.sizes import Sizes
from neva.evaluate.stamps import Stamps
from neva.evaluate.task import Item, Judged, Task, choose, digest, verify
from neva.evaluate.vizwiz import VizWiz
from neva.evaluate.vqav2 import TextVQA, VQAv2

OCR_SUMMARY = "TextVQA validation with LLaVA's line of OCR words; soft accuracy over annotators."

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        EasyVQA(),
        OpenMoji(),
        Scenes(),
        Sizes(),
        Stamps(),
        VQAv2(),
        TextVQA(),
        TextVQA(name="textvqa-ocr", summary=OCR_SUMMARY, ocr=True),
        VizWiz(),
        GQA(),
        POPE(),
        ScienceQA(),
        SeedBench(),
        MME(),
    )
}

__all__ = ["TASKS", "Asking", "Baseline", "Item", "Judged", "Report", "Task", "evaluate", "read"]


def read(task: Task, data: Path | None = None) -> list[Item]:
    """The whole set, checked; before a model is opened, which takes longer."""
    items = task.load(data)
    verify(task.name, items)
    return items


def evaluate(
    task: Task,
    engine: Engine,
    limit: int | None = None,
    *,
    data: Path | None = None,
    items: Sequence[Item] | None = None,
    baseline: Baseline = "none",
    suffix: str | None = None,
    system: str | None = None,
    in_flight: int = 16,
    model: Mapping[str, Any] | None = None,
    partial: Path | None = None,
    watch: Watch = unwatched,
) -> Report:
    """Run a task, greedy; `limit` questions at even distances over the set, or all.
    EngineError where not one question could be asked.

    `data` is the folder with the task's files, or `items` what `read` made of it;
    `model` is the identity to record (a checkpoint's sha256, a URL); `partial` a file from which a
    run that was cut off goes on; `watch` sees every judged answer as it comes,
    and how many there will be.
    """
    items = read(task, data) if items is None else items
    chosen = choose(items, limit)
    asking = Asking(task.suffix if suffix is None else suffix, task.max_tokens, system, in_flight)
    asked = {
        "task": task.name,
        **(model or {"model": engine.info.name}),
        **_how(engine, asking),
        "baseline": baseline,
        "limit": limit,
        "data": digest(items),
    }
    kept = Partial.open(partial, asked)
    resumed = len(kept.answers)
    start = time.perf_counter()
    try:
        judged = run(task, blind(chosen, baseline), engine, asking, kept, watch)
    finally:
        kept.close()
    seconds = time.perf_counter() - start
    if judged and all(one.error is not None for one in judged):
        raise EngineError(f"no question could be asked; the first: {judged[0].error}")
    return Report(
        task=task.name,
        summary=task.summary,
        headline=task.headline,
        asked=asked,
        total=len(items),
        metrics=task.metrics(judged),
        floor=task.floor(chosen),
        judged=judged,
        seconds=seconds,
        resumed=resumed,
    )


def _how(engine: Engine, asking: Asking) -> dict[str, Any]:
    """By what and in which words the questions are asked, as it is recorded."""
    return {
        "engine": engine.info.engine,
        "precision": engine.info.precision,
        "suffix": asking.suffix,
        "system": asking.system,
        "temperature": 0.0,
        "max_tokens": asking.max_tokens,
        "neva": version("neva-vlm"),
    }
