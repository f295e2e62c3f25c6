"""One command that measures the packed default model and writes all that is told about it.

    python -m zoo.evidence                       # everything, into zoo/results
    python -m zoo.evidence --limit 20            # a trial, into zoo/work/evidence-20
    python -m zoo.evidence --only openmoji       # one task of it
    python -m zoo.evidence --tables              # write pages again from the results that are there

Every evaluation with its pictures, without them and with another's; conversations, reasoning and
descriptions; photographs; the text-only check; speed. Then the confusion tables, the contact
sheets, the model card, the page of all figures, and the tables between `<!-- evidence: NAME -->`
marks in README.md and zoo/README.md. A result of the same weights and limit is kept, a run that
was cut off goes on, one of other weights is made anew.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from neva.commands.card import CARD_NOTES
from neva.errors import DataError, NevaError
from neva.evaluate.report import write_whole
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from zoo import confusions, synonyms
from zoo.evidence_tables import PAGES, blocks, fill, page, speed_note
from zoo.judged import FILES, check_there, data_of
from zoo.trials import BASELINES, OTHERS, TASKS, Plan, call, read_asked, trials

TILES = 24
"""Of a contact sheet: a sheet is new with each version, and stays in the repository's history."""
CARD = "card.md"


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
    call([sys.executable, "-m", "neva", "card", *model, *notes, *words, *place])


def write_tables(plan: Plan) -> None:
    """Everything that is made from results; marked tables of pages only for the packed model."""
    found = results(plan)
    if any(path.stem in FILES for path in found):
        confusions.write(found, plan.packages, plan.out / "confusions.md")
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}
    for path in found:
        if records[path.stem].get("task") == "stamps":
            told = records[path.stem]["metrics"]
            told[synonyms.FIGURE] = synonyms.stamps_share(path, plan.packages)
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


@contextmanager
def alone(work: Path, out: Path) -> Iterator[None]:
    """DataError while another process writes into the same folder of results."""
    work.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]
    with (work / f"evidence-{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another run writes into {out}; let it end or stop it.") from None
        yield


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


def measure(plan: Plan, options: argparse.Namespace) -> None:
    """Run the trials that the command line asks for."""
    for trial in () if options.tables else trials(plan):
        task, _, baseline = trial.name.rpartition("-")
        blind = baseline in BASELINES
        wanted = options.only is None or (task if blind else trial.name) in options.only
        if wanted and not (blind and options.no_baselines):
            trial.run(plan)


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
    if not options.tables:
        check_there(options.only or TASKS, plan.packages)
    with alone(plan.work, plan.out):
        measure(plan, options)
        write_tables(plan)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NevaError as error:
        sys.exit(f"zoo.evidence: {error}")
