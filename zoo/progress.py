"""Time to quality: what each version of the default model scored, by hours of two CPU cores so far.

    python -m zoo.progress                          # the plot, and the table in zoo/README.md
    python -m zoo.progress --add 19 25 "what is new" # the packed model's results as another row

``progress.tsv`` holds the rows: all that was trained on the committed road up to a version, CLIP's
hours too, without evaluations and without what was given up. Figures are those of the committed
results of each version (`neva eval`, whole sets), as the repository's history has them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from neva.deploy.card import table
from neva.deploy.sheet import save_sheet
from zoo.evidence_tables import fill

ROWS = Path("zoo/progress.tsv")
PLOT = Path("zoo/results/progress.png")
PAGE = Path("zoo/README.md")
SETS: Mapping[str, tuple[str, str, str]] = {
    "easy-vqa": ("easy-VQA", "accuracy", "#4f7cac"),
    "openmoji": ("OpenMoji 17", "accuracy", "#2f6f4f"),
    "flags": ("its flags", "accuracy.flag", "#7cc49a"),
    "stamps": ("Tux Paint stamps", "accuracy", "#c98a2b"),
    "scenes": ("composed scenes", "accuracy", "#8a6fae"),
    "sizes": ("unequal sizes", "accuracy", "#d9694f"),
}
"""Column -> what it is called, the figure of its result, its colour."""
Row = Mapping[str, str]


def read(path: Path = ROWS) -> list[Row]:
    """The rows, each by the names of its columns."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


def measured(version: str, hours: str, new: str, results: Path) -> Row:
    """A row of the results in a folder."""
    found = {"version": version, "hours": hours}
    for name, (_, figure, _) in SETS.items():
        file = results / f"{'openmoji' if name == 'flags' else name}.json"
        found[name] = f"{json.loads(file.read_text(encoding='utf-8'))['metrics'][figure]:.2f}"
    return found | {"what was new": new}


def add(row: Row, path: Path = ROWS) -> None:
    """Put a row at the end of the file."""
    with path.open("a", encoding="utf-8") as sink:
        sink.write("\t".join(row.values()) + "\n")


def as_table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    called = [called for called, _, _ in SETS.values()]
    lines = [
        [row["version"], row["hours"],
         *(f"{float(row[name]):.1f}" if row[name] else "" for name in SETS), row["what was new"]]
        for row in rows
    ]  # fmt: skip
    return table(("version", "hours", *called, "what was new"), lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Scores by hours, a line for each set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    last, at = max(float(row["hours"]) for row in rows), 0.0
    for name in sorted(SETS, key=lambda name: float(rows[-1][name])):
        called, _, colour = SETS[name]
        told = [(float(row["hours"]), float(row[name])) for row in rows if row[name]]
        axes.plot(*zip(*told, strict=True), "o-", color=colour, markersize=3.5, linewidth=1.5)
        at = max(at + 4, told[-1][1])  # labels of scores that are near stand above each other
        axes.text(1.02 * last, at, called, fontsize=9, color=colour, verticalalignment="center")
    axes.set_xlim(0, 1.25 * last)
    axes.set_xticks(range(0, int(last) + 1, 4))
    axes.set_ylim(0, 102)
    axes.set_xlabel("hours of two CPU cores, all training so far")
    axes.set_ylabel("right, %")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=100, metadata={"Software": ""})
    save_sheet(Image.open(buffer).convert("RGB"), path)


def main(argv: list[str] | None = None) -> int:
    """Draw the plot, fill the table, or add a version."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--add", nargs=3, metavar=("VERSION", "HOURS", "NEW"))
    parser.add_argument("--results", type=Path, default=PLOT.parent, help="of what is added")
    given = parser.parse_args(argv)
    if given.add:
        version, hours, new = given.add
        add(measured(version, hours, new, given.results))
    rows = read()
    draw(rows, PLOT)
    text = as_table(rows)
    print(text if fill(PAGE, "progress", text) else f"{PAGE} has no marks; here to paste\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
