"""The confusion tables of the default model: what it says instead, as Markdown and one picture.

    python -m zoo.confusions zoo/results/*.json -o zoo/results/confusions.md

Reads the results of `neva eval --json` (those with their pictures; baselines are left out) and the
benchmarks' own files. Which confusion is the largest is where training has most to gain.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from neva.deploy.card import table
from neva.evaluate import TASKS, Item
from neva.evaluate.files import read_json
from neva.evaluate.report import write_whole
from zoo.confusion_plot import draw
from zoo.judged import FILES, Result, read_result
from zoo.tally import Form, Matrix, by_kind, easy_forms, forms, kinds_of, summed
from zoo.wrong import KINDS, MEANING, Frequent, Names, frequent

PACKAGES = Path("zoo/work/packages")


def naming(result: Result) -> list[str]:
    """Tables of a set of names: kinds of wrong by group, and the commonest wrong answers."""
    names = Names.of(result.items)
    by_group = kinds_of(result.judged, names, "group")
    total = summed(by_group.values())
    used = [kind for kind in KINDS if total[kind]]
    lines = [kinds_line(group, by_group[group], used) for group in by_group]
    lines.append(kinds_line("all", total, used))
    if result.task == "stamps":
        by_sort = kinds_of(result.judged, names, "kind")
        lines += [kinds_line(f"*{sort}*", by_sort[sort], used) for sort in by_sort]
    wrong = frequent(result.judged)
    share = 100 * sum(one.times for one in wrong) / max(1, sum(c < 1 for c in credits(result)))
    return [
        "Percent of the drawings of a group.",
        table(("group", "drawings", *used), lines),
        f"The {len(wrong)} commonest wrong answers ({share:.0f}% of all wrong ones):",
        table(("answer", "times", "of how many things", "mostly in", "such as"),
              map(frequent_line, wrong)),
    ]  # fmt: skip


def credits(result: Result) -> list[float]:
    """Every answer's credit."""
    return [one.credit for one in result.judged]


def kinds_line(name: str, counts: Mapping[str, int], used: Sequence[str]) -> list[object]:
    """One group's shares."""
    asked = sum(counts.values())
    shares = [100 * counts[kind] / asked for kind in used]
    return [name, asked, *(f"{share:.1f}" if share else "·" for share in shares)]


def frequent_line(one: Frequent) -> list[object]:
    """One wrong answer."""
    groups, examples = ", ".join(one.groups), ", ".join(one.examples)
    return [one.answer or "(nothing)", one.times, one.things, groups, examples]


def grid(found: Matrix) -> str:
    """True by said; the diagonal in bold."""
    shown, lines = found.trimmed(), []
    for number, (true, row) in enumerate(shown.rows()):
        cells = [f"**{one}**" if p == number else str(one or "·") for p, one in enumerate(row)]
        lines.append([true, *cells])
    return table(("true \\ said", *shown.said), lines)


def form_lines(found: Iterable[Form], floor: Mapping[str, float] | None = None) -> str:
    """Forms of questions with what is said to them, and beside it what a guess gets."""
    header = ["form", "questions", "right, %", *(["no model, %"] if floor else []), "says"]
    lines = []
    for one in found:
        said = ", ".join(f"{answer or '(nothing)'} {times}" for answer, times in one.answers)
        guess = [f"{floor[one.name]:.1f}"] if floor else []
        lines.append([one.name, one.asked, f"{one.percent:.1f}", *guess, said])
    return table(header, lines)


def easy(result: Result) -> list[str]:
    """easy-VQA: colours, shapes, and yes-or-no questions by form."""
    return [
        "Shapes:", grid(by_kind(result.judged, "shape")),
        "Colours:", grid(by_kind(result.judged, "color")),
        "Yes or no:", form_lines(easy_forms(result.judged)),
    ]  # fmt: skip


def scenes(result: Result) -> list[str]:
    """Scenes: every form of question, then true by said."""
    parts = [form_lines(forms(result.judged), guesses(result))]
    for kind in ("count", "color", "side", "presence"):
        parts += [f"{kind.capitalize()}:", grid(by_kind(result.judged, kind))]
    return parts


def sizes(result: Result) -> list[str]:
    """Sizes: every form of question, then yes and no."""
    return [form_lines(forms(result.judged), guesses(result)),
            "Whether:", grid(by_kind(result.judged, "whether"))]  # fmt: skip


def guesses(result: Result) -> dict[str, float]:
    """Form -> percent right of who does not look, by the task's own floor."""
    asked: dict[str, list[Item]] = defaultdict(list)
    for one in result.judged:
        asked[str(one.item.facts["form"])].append(one.item)
    task = TASKS[result.task]
    return {form: task.floor(items)["accuracy"] for form, items in asked.items()}


TABLES: Mapping[str, Callable[[Result], list[str]]] = {
    "openmoji": naming,
    "stamps": naming,
    "easy-vqa": easy,
    "scenes": scenes,
    "sizes": sizes,
}


def page(results: Sequence[Result], plot: str | None) -> str:
    """The whole Markdown page; `plot` is the picture's name beside it."""
    sha = {str(one.record["asked"].get("sha256", "unknown"))[:16] for one in results}
    parts = [
        "# What the default model says instead",
        "Written by `python -m zoo.confusions` from the answers in this folder; model "
        + ", ".join(f"`{one}`" for one in sorted(sha)) + ". Greedy answers, normalised.",
    ]  # fmt: skip
    parts += [f"![Kinds of answers and confusions]({plot})"] if plot else []
    for one in results:
        right = 100 * sum(credits(one)) / len(one.judged)
        of = f"{len(one.judged):,} of {one.record['of']:,} questions, {right:.2f}% right"
        parts += [f"## {one.task}: {of}", *TABLES[one.task](one)]
    if any(TABLES[one.task] is naming for one in results):
        legend = [f"- *{kind}*: {MEANING[kind]}" for kind in KINDS]
        parts += ["## Kinds of answers", "The first that holds:\n\n" + "\n".join(legend)]
    return "\n\n".join(parts) + "\n"


def chosen(paths: Iterable[Path]) -> list[Path]:
    """The results of known tasks with their pictures, in the order of TABLES."""
    found: dict[str, Path] = {}
    for path in paths:
        record = read_json(path)
        known = isinstance(record, dict) and record.get("task") in FILES
        if known and record["asked"].get("baseline", "none") == "none":
            found[record["task"]] = path
    return [found[task] for task in TABLES if task in found]


def write(paths: Iterable[Path], packages: Path, out: Path) -> None:
    """The page at `out` and its picture beside it."""
    results = [read_result(path, packages) for path in chosen(paths)]
    plot = out.with_suffix(".png")
    drawn = draw(results, plot)
    write_whole(out, page(results, plot.name if drawn else None))


def main(argv: list[str] | None = None) -> int:
    """Write the confusion tables and their plot."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of `neva eval`")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="unpacked packages")
    parser.add_argument("-o", "--output", type=Path, default=Path("zoo/results/confusions.md"))
    options = parser.parse_args(argv)
    write(options.results, options.packages, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
