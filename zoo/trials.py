"""The runs behind the default model's figures: which there are, and whether they are done.

A run is a command and the JSON that it leaves behind. It is done when that is of the same weights
and the same limit; answers that were kept by a run of other weights are thrown away.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from zoo.judged import data_of

TASKS = ("openmoji", "scenes", "sizes", "stamps", "easy-vqa")
BASELINES = ("shuffled", "text")
OTHERS = ("dialogues", "photographs", "text-check", "speed")


@dataclass(frozen=True)
class Plan:
    """What is measured, where to, and from what files."""

    model: Path
    sha256: str
    out: Path
    work: Path
    named: bool
    """Whether the model was given by name: it is not the packed one."""
    limit: int | None = None
    baseline_limit: int | None = None

    @property
    def packages(self) -> Path:
        """The folder of unpacked packages."""
        return self.work / "packages"

    @property
    def model_words(self) -> list[str]:
        """How a command is told the model."""
        return ["--model", str(self.model)] if self.named else []


@dataclass(frozen=True)
class Trial:
    """One command and the result that it leaves behind."""

    name: str
    module: str
    words: tuple[str, ...]
    limit: int | None = None

    def result(self, plan: Plan) -> Path:
        """The JSON file."""
        return plan.out / f"{self.name}.json"

    def done(self, plan: Plan) -> bool:
        """Whether there is a result of these weights and this limit."""
        asked = read_asked(self.result(plan))
        same = asked is not None and asked.get("sha256") == plan.sha256
        return same and asked is not None and asked.get("limit") == self.limit

    def run(self, plan: Plan) -> None:
        """Run it, unless it is done; answers of other weights are thrown away."""
        if self.done(plan):
            print(f"{self.name}: there already", flush=True)
            return
        for partial in plan.out.glob(f"{self.name}.json*.partial.jsonl"):
            if not begun_with(partial, plan.sha256, self.limit):
                partial.unlink()
        limited = ["--limit", str(self.limit)] if self.limit else []
        place = ["--json", str(self.result(plan))]
        call([sys.executable, "-m", self.module, *self.words, *plan.model_words, *limited, *place])


def read_asked(path: Path) -> Mapping[str, Any] | None:
    """How a result was asked; None where there is none."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["asked"]
        return found if isinstance(found, dict) else None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} is not a result; move it away and run this again.") from None


def begun_with(partial: Path, sha256: str, limit: int | None) -> bool:
    """Whether answers that were kept are of these weights and this limit."""
    with partial.open(encoding="utf-8") as file:
        try:
            run = json.loads(file.readline())["run"]
        except (ValueError, KeyError, TypeError):
            return False
    return bool(run.get("sha256") == sha256 and run.get("limit") == limit)


def call(command: Sequence[str]) -> None:
    """Show a command and run it."""
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def trials(plan: Plan) -> Iterator[Trial]:
    """All of them, what is told first first."""
    for task in TASKS:
        yield evaluation(plan, task, "none", plan.limit)
    work = ("--work", str(plan.work))
    yield Trial("dialogues", "zoo.dialogues", work, plan.limit)
    yield Trial("photographs", "zoo.photographs", work, plan.limit)
    yield Trial("text-check", "zoo.text_check", (), plan.limit)
    if not plan.limit:
        scenarios = ("--scenario", "new-image", "--scenario", "same-image")
        words = ("bench", *scenarios, "--concurrency", "1", "--max-tokens", "24")
        yield Trial("speed", "neva", words)
    for task in TASKS:
        for baseline in BASELINES:
            yield evaluation(plan, task, baseline, plan.baseline_limit or plan.limit)


def evaluation(plan: Plan, task: str, baseline: str, limit: int | None) -> Trial:
    """`neva eval TASK`, by baseline."""
    data = data_of(task, plan.packages)
    words = ["eval", task, "--baseline", baseline, *(["--data", str(data)] if data else [])]
    name = task if baseline == "none" else f"{task}-{baseline}"
    return Trial(name, "neva", tuple(words), limit)
