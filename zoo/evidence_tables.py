"""The figures of the default model as Markdown: a page of all, and tables for marked places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neva.deploy.beside import gather
from neva.deploy.card import table
from neva.evaluate.report import write_whole
from neva.nano.base import PACKAGE, find_base
from neva.nano.manifest import WEIGHTS
from zoo.judged import FILES
from zoo.wrong import unsure

Records = Mapping[str, Mapping[str, Any]]
PAGES = (Path("README.md"), Path("zoo/README.md"))
MARKS = "<!-- evidence: {name} -->", "<!-- /evidence -->"

FIGURES: tuple[tuple[str, str, str, str], ...] = (
    ("easy-vqa", "accuracy", "easy-VQA, test split", "95 / 99"),
    ("easy-vqa", "accuracy.yes_no", "yes or no", ""),
    ("easy-vqa", "accuracy.shape", "shape", ""),
    ("easy-vqa", "accuracy.color", "colour", ""),
    ("openmoji", "accuracy", 'OpenMoji 17, "What is this?"', "35 / 60"),
    ("openmoji", "half.report", "its report half", ""),
    ("openmoji", "accuracy.emoji", "emoji", ""),
    ("openmoji", "accuracy.flag", "flags", "50 / 80"),
    ("openmoji", "exact", "annotation alone, no other name or general word", ""),
    ("stamps", "accuracy", 'Tux Paint stamps, "What is this?"', "10 / 25"),
    ("stamps", "accuracy.without symbols", "without letters, digits and coins", ""),
    ("stamps", "cldr", "an emoji's name counts too where the caption is its keyword", ""),
    ("stamps", "accuracy.photo", "photographs cut out", ""),
    ("stamps", "accuracy.drawing", "drawings", ""),
    ("stamps", "accuracy.symbol", "symbols", ""),
    ("scenes", "accuracy", "composed scenes", "65 / 85"),
    ("scenes", "accuracy.count", "how many", ""),
    ("scenes", "accuracy.side", "left, right, above, below", ""),
    ("scenes", "accuracy.presence", "is it there", ""),
    ("scenes", "accuracy.color", "which colour", ""),
    ("scenes", "accuracy.what", "what is on a side", ""),
    ("sizes", "accuracy", "scenes of unequal sizes", ""),
    ("sizes", "accuracy.whether", "is one larger than another", ""),
    ("sizes", "accuracy.which", "which of two is larger", ""),
    ("sizes", "accuracy.of all", "the largest or smallest of all", ""),
)
"""Task, figure, what it is called, and the floor and goal that issue 4 sets."""

FIRST = frozenset(("accuracy", "accuracy.flag", "exact"))  # what the short table tells


def blocks(records: Records) -> dict[str, str]:
    """The tables by the name of their marks: "headline" (short), "all"."""
    found = {one["task"]: one for one in gather(list(measured(records).values()))}
    return {
        "headline": figures(found, short=True),
        "all": "\n\n".join([figures(found, short=False), *others(records)]),
    }


def measured(records: Records) -> Records:
    """The results of evaluations; speed has another form."""
    return {name: one for name, one in records.items() if "metrics" in one}


def figures(found: Mapping[str, Mapping[str, Any]], short: bool) -> str:
    """Every figure with its questions, its baselines and what a guess would get."""
    lines = []
    for task, name, called, goal in FIGURES:
        one = found.get(task)
        if one is None or name not in one["metrics"] or (short and name not in FIRST):
            continue
        main = name == "accuracy"
        label = called if main else f"- {called}" if not short else f"its {called}"
        count = f"{asked_of(one, name):,}" + ("" if one["questions"] == one["of"] else " (part)")
        score = f"{one['metrics'][name]:.2f}"
        lines.append([
            label, count, f"**{score}**" if main else score,
            blind(one, "text", name), blind(one, "shuffled", name),
            shown(one["floor"].get(name)), *([] if short else [goal]),
        ])  # fmt: skip
    header = ["", "questions", "right, %", "no picture", "another's picture", "guess, no model"]
    return table([*header, *([] if short else ["floor / goal"])], lines)


def asked_of(one: Mapping[str, Any], name: str) -> int:
    """How many questions a figure is of."""
    count = one["metrics"].get(f"n.{name.partition('.')[2]}")
    return int(one["questions"] if count is None else count)


def blind(one: Mapping[str, Any], baseline: str, name: str) -> str:
    """A baseline's figure, and of how many questions if these were fewer."""
    for column, metrics in one.get("beside", {}).items():
        kind, _, asked = column.partition(", ")
        if kind == baseline and name in metrics:
            count = metrics.get(f"n.{name.partition('.')[2]}")
            of = "" if not asked else f" (of {asked if count is None else f'{count:.0f}'})"
            return shown(metrics[name]) + of
    return ""


def shown(value: float | None) -> str:
    """Two decimals, or nothing."""
    return "" if value is None else f"{value:.2f}"


def others(records: Records) -> Iterator[str]:
    """Tables of what is no benchmark: photographs, silence where it should know, text, speed."""
    if "dialogues" in records:
        yield dialogues(records["dialogues"])
    if "photographs" in records:
        yield photographs(records["photographs"])
    known = [name for name in FILES if name in records]
    if known:
        yield "Answers that say \"not sure\" where the picture is one it could know: " + ", ".join(
            f"{name} {silent(records[name]):.1f}%" for name in known) + "."  # fmt: skip
    if "text-check" in records:
        yield texts(records["text-check"])
    if "speed" in records:
        yield speed(records["speed"])


def dialogues(record: Mapping[str, Any]) -> str:
    """Conversations, reasoning and descriptions, by kind of question."""
    lines = []
    for name, value in record["metrics"].items():
        kind = name.partition(".")[2]
        if name.startswith("accuracy."):
            count = f"{record['metrics'][f'n.{kind}']:.0f}"
            lines.append([kind, count, f"{value:.1f}", *(
                "" if name not in one else f"{one[name]:.1f}"
                for one in (record["beside"]["shuffled"], record["floor"])
            )])  # fmt: skip
    header = ("in conversation", "questions", "right, %", "another's picture", "commonest answer")
    return table(header, lines)


def photographs(record: Mapping[str, Any]) -> str:
    """Photographs: not sure, right, invented."""
    metrics = record["metrics"]
    lines = [
        [kind, f"{metrics[f'n.{kind}']:.0f}",
         *(f"{metrics[f'{read}.{kind}']:.1f}" for read in ("not sure", "right", "invented"))]
        for kind in ("whole", "crop") if metrics.get(f"n.{kind}")
    ]  # fmt: skip
    return table(("photographs", "pictures", "not sure, %", "right, %", "invented, %"), lines)


def silent(record: Mapping[str, Any]) -> float:
    """Percent of the answers that say "not sure"."""
    answers = record["answers"]
    silent = [one for one in answers if one["credit"] == 0 and unsure(one["answer"])]
    return 100 * len(silent) / max(1, len(answers))


def texts(record: Mapping[str, Any]) -> str:
    """The text-only check, before and after."""
    before = record["beside"]["base LM"]
    lines = []
    for name, after in record["metrics"].items():
        if name.startswith("n."):
            continue
        form = ".3f" if name.startswith("nats") else ".1f"
        label = f"prompts, % right{name.removeprefix('accuracy').replace('.', ', ')}"
        called = name if name.startswith("nats") else label
        lines.append([called, f"{before[name]:{form}}", f"{after:{form}}"])
    return table(("text alone", "base LM", "neva-nano"), lines)


def speed(record: Mapping[str, Any]) -> str:
    """Times of one caller."""
    lines = [
        [one["scenario"], *(f"{one[key]['p50']:.0f}" for key in ("ttft_ms", "total_ms"))]
        for one in record["results"]
    ]
    return table(("one caller", "first word, ms", "whole answer, ms"), lines)


def speed_note(record: Mapping[str, Any]) -> str:
    """Sizes and times in a sentence, for the card."""
    parts = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file())
    base = find_base().stat().st_size
    times = {one["scenario"]: one for one in record["results"]}
    new, width, height = times["new-image"], record["asked"]["width"], record["asked"]["height"]
    return (
        f"Committed parts {parts / 1e6:.0f} MB, base language model {base / 1e6:.0f} MB as the "
        f"package {PACKAGE}. One caller, a picture of {width} x {height} that was not seen before: "
        f"first word after {new['ttft_ms']['p50']:.0f} ms, whole answer after "
        f"{new['total_ms']['p50']:.0f} ms (median of {new['requests']}; {record['machine']})."
    )


def page(records: Records, sha256: str) -> str:
    """The page of a folder of results."""
    parts = [
        "# Figures of the default model",
        f"Written by `python -m zoo.evidence`; weights `{sha256}`. Greedy, int8. Every answer is "
        "in the JSON file of its task. Floor and goal are those of the project's issue 4.",
        blocks(records)["all"],
        "More: [what it says instead](confusions.md), [photographs](photographs.md), "
        "[the model card with contact sheets](card.md).",
        "The contact sheets of openmoji, scenes and sizes, `card.*.png`, show OpenMoji's drawings "
        "and are under their licence, CC-BY-SA-4.0; that of stamps shows Tux Paint's, GPL-2. Who "
        "made the photographs stands on their page.",
        "## Commands and times",
        table(("result", "questions", "seconds", "command"), times(records)),
        "`DIR` is the folder of the benchmark's files, see `docs/evaluation.md`. Times are wall "
        "clock, of the answers that were made in the last run; the machine may have been busy.",
    ]
    return "\n\n".join(parts) + "\n"


def times(records: Records) -> Iterator[list[object]]:
    """Name, questions, seconds, and the command that repeats it."""
    for name, one in measured(records).items():
        fresh = one["questions"] - one.get("resumed", 0)
        seconds = f"{one['seconds']:.0f}" + ("" if fresh == one["questions"] else f" ({fresh:,})")
        yield [f"[{name}]({name}.json)", f"{one['questions']:,} of {one['of']:,}", seconds,
               f"`{command(name, one)}`"]  # fmt: skip


def command(name: str, one: Mapping[str, Any]) -> str:
    """How a result is made."""
    task, asked = one["task"], one["asked"]
    limit = f" --limit {asked['limit']}" if asked.get("limit") else ""
    if task not in FILES:
        return f"python -m zoo.{task.replace('-', '_')}{limit} --json {name}.json"
    data = " --data DIR" if FILES[task] else ""
    baseline = asked.get("baseline", "none")
    blind = f" --baseline {baseline}" if baseline != "none" else ""
    return f"neva eval {task}{data}{blind}{limit} --json {name}.json"


def fill(path: Path, name: str, text: str) -> bool:
    """Replace what stands between the marks of `name`; False where the page has none."""
    begin, end = (mark.format(name=name) for mark in MARKS)
    old = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    new, count = pattern.subn(lambda _: f"{begin}\n{text}\n{end}", old)
    if count and new != old:
        write_whole(path, new)
    return count > 0
