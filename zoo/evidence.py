"""One command that measures the packed default model and writes all that is told about it.

    python -m zoo.evidence                       # everything, into zoo/results
    python -m zoo.evidence --limit 20            # a trial, into zoo/work/evidence-20
    python -m zoo.evidence --only openmoji       # one task of it
    python -m zoo.evidence --tables              # write pages again from the results that are there

Every evaluation with its pictures, without them and with another's; the text-only check;
photographs; speed. Then the confusion tables, the contact sheets, the model card, the page of all
figures, and the tables between `<!-- evidence: NAME -->` marks in README.md and zoo/README.md. A
result of the same weights and limit is kept, a run that was cut off goes on, one of other weights
is made anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.commands.card import CARD_NOTES
from neva.errors import DataError
from neva.evaluate.report import write_whole
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from zoo import confusions
from zoo.evidence_tables import PAGES, blocks, fill, page, speed_note
from zoo.judged import FILES, data_of

TASKS = ("openmoji", "scenes", "stamps", "easy-vqa")
BASELINES = ("shuffled", "text")
OTHERS = ("photographs", "text-check", "speed")
TILES = 48
MORE = 18  # tiles of the sheets whose pictures are much alike
CARD = "card.md"


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
    yield Trial("photographs", "zoo.photographs", work, plan.limit)
    yield Trial("text-check", "zoo.text_check", (), plan.limit)
    if not plan.limit:
        scenarios = ("--scenario", "new-image", "--scenario", "same-image")
        words = ("bench", *scenarios, "--concurrency", "1", "--max-tokens", "24")
        yield Trial("speed", "neva.cli", words)
    for task in TASKS:
        for baseline in BASELINES:
            yield evaluation(plan, task, baseline, plan.baseline_limit or plan.limit)


def evaluation(plan: Plan, task: str, baseline: str, limit: int | None) -> Trial:
    """`neva eval TASK`, by baseline."""
    data = data_of(task, plan.packages)
    words = ["eval", task, "--baseline", baseline, *(["--data", str(data)] if data else [])]
    name = task if baseline == "none" else f"{task}-{baseline}"
    return Trial(name, "neva.cli", tuple(words), limit)


def results(plan: Plan) -> list[Path]:
    """The results of these weights that are there, in the order of the trials."""
    found = []
    for trial in trials(plan):
        asked = read_asked(trial.result(plan))
        if asked is not None and asked.get("sha256") == plan.sha256:
            found.append(trial.result(plan))
        elif asked is not None:
            print(f"{trial.name}: of another model, left out", flush=True)
    return found


def write_card(plan: Plan, found: Sequence[Path]) -> None:
    """`neva card` with every result, the confusions and a contact sheet of each task."""
    names = {path.stem: path for path in found if path.stem != "speed"}
    words = [word for path in names.values() for word in ("--result", str(path))]
    pictures = {"Kinds of answers, and confusions": plan.out / "confusions.png",
                "Photographs and answers": plan.out / "photographs.png"}  # fmt: skip
    for title, path in pictures.items():
        words += ["--picture", f"{title}={path}"] if path.is_file() else []
    for task in TASKS:
        data = data_of(task, plan.packages)
        if task in names:
            words += ["--sheet", f"{task}={data}" if data else task]
    notes = ["--notes", str(CARD_NOTES)] if plan.named else []
    model = [str(plan.model)] if plan.named else []
    place = ["--tiles", str(TILES), "-o", str(plan.out / CARD)]
    call([sys.executable, "-m", "neva.cli", "card", *model, *notes, *words, *place])


def write_tables(plan: Plan) -> None:
    """Everything that is made from results; marked tables of pages only for the packed model."""
    found = results(plan)
    if any(path.stem in FILES for path in found):
        confusions.write(found, plan.packages, plan.out / "confusions.md")
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}
    if "speed" in records and not plan.named:
        note(CARD_NOTES, "speed", speed_note(records["speed"]))
    write_card(plan, found)
    write_whole(plan.out / "README.md", page(records, plan.sha256))
    for name, text in blocks(records).items():
        places = [] if plan.named or plan.limit else [p for p in PAGES if fill(p, name, text)]
        where = ", ".join(map(str, places)) or "no page has its marks; here to paste"
        print(f"\ntable {name!r}: {where}\n\n{text}\n", flush=True)


def note(path: Path, name: str, text: str) -> None:
    """Put a sentence into the card's notes, where it differs from theirs."""
    notes = json.loads(path.read_text(encoding="utf-8"))
    if notes.get(name) != text:
        write_whole(path, json.dumps(notes | {name: text}, indent=1, ensure_ascii=False) + "\n")


def make_plan(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    model = options.model or default_checkpoint()
    trial = options.work / f"evidence-{options.limit}"
    out = options.out or (trial if options.limit else Path("zoo/results"))
    out.mkdir(parents=True, exist_ok=True)
    return Plan(
        model=model,
        sha256=Checkpoint.open(model).sha256,
        out=out,
        work=options.work,
        named=options.model is not None,
        limit=options.limit,
        baseline_limit=options.baseline_limit,
    )


def main(argv: list[str] | None = None) -> int:
    """Measure the default model and write what is told about it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="another checkpoint (say where to by --out)")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--work", type=Path, default=Path("zoo/work"), help="zoo.make's folder")
    parser.add_argument("--limit", type=int, help="only so many questions of each set")
    parser.add_argument("--baseline-limit", type=int, help="only so many for each baseline")
    parser.add_argument("--only", nargs="+", choices=[*TASKS, *OTHERS], help="only these")
    parser.add_argument("--no-baselines", action="store_true", help="only with their pictures")
    parser.add_argument("--tables", action="store_true", help="no evaluation, only pages")
    options = parser.parse_args(argv)
    if options.model is not None and options.out is None and options.limit is None:
        parser.error("--model is not the packed model: give --out another folder")
    plan = make_plan(options)
    print(f"model {plan.model.name}, weights {plan.sha256}", flush=True)
    for trial in () if options.tables else trials(plan):
        task, _, baseline = trial.name.rpartition("-")
        blind = baseline in BASELINES
        wanted = options.only is None or (task if blind else trial.name) in options.only
        if wanted and not (blind and options.no_baselines):
            trial.run(plan)
    write_tables(plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
