"""Where the answers go, as one picture: kinds of answers by group, and true by said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from neva.deploy.sheet import save_sheet
from zoo.judged import Result
from zoo.tally import Matrix, by_kind, forms, kinds_of, summed
from zoo.wrong import KINDS, Names

COLOURS: Mapping[str, str] = {
    "the name": "#1c7a43",
    "another name": "#7cc49a",
    "not sure": "#5b8def",
    "nothing": "#c3c7cc",
    "shared word": "#f2c14e",
    "near meaning": "#f09b52",
    "same group": "#d9694f",
    "another group": "#a32a22",
    "no name": "#5c2a4f",
}
INK, SOFT = "#202124", "#70757a"
LONG = 14  # letters of a label
Panel = Callable[[Any], None]  # draws into matplotlib's axes


def draw(results: Sequence[Result], path: Path) -> bool:
    """Write a PNG; False (and nothing written) without matplotlib or without results."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    drawn = [panel for result in results for panel in panels(result)]
    if not drawn:
        return False
    columns = min(3 if len(drawn) <= 6 else 4, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(5 * columns, 4.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(drawn):
        panel(figure.add_subplot(rows, columns, number + 1))
    buffer = BytesIO()
    figure.savefig(buffer, dpi=90, metadata={"Software": ""})
    save_sheet(Image.open(buffer).convert("RGB"), path)  # in 256 colours: a third of the bytes
    return True


def panels(result: Result) -> list[Panel]:
    """What is drawn of a result."""
    if result.task in ("openmoji", "stamps"):
        names = Names.of(result.items)
        counts = kinds_of(result.judged, names, "group" if result.task == "openmoji" else "kind")
        return [partial(stacked, result.task, {**counts, "all": summed(counts.values())})]
    if result.task == "easy-vqa":
        kinds = [("shape", "easy-VQA, shapes"), ("color", "easy-VQA, colours")]
        return heats(result, kinds)
    kinds = [("count", "scenes, how many"), ("color", "scenes, which colour")]
    return [partial(bars, result), *heats(result, kinds)]


def heats(result: Result, kinds: Sequence[tuple[str, str]]) -> list[Panel]:
    """A matrix for each kind of question that was asked."""
    found = [(title, by_kind(result.judged, kind).trimmed()) for kind, title in kinds]
    return [partial(heat, title, one) for title, one in found if one.total]


def stacked(title: str, counts: Mapping[str, Counter[str]], axes: Any) -> None:
    """Shares of the kinds of answers, a bar for each group."""
    groups = list(counts)
    left = [0.0] * len(groups)
    for kind in KINDS:
        shares = [100 * counts[group][kind] / max(1, counts[group].total()) for group in groups]
        if any(shares):
            axes.barh(groups, shares, 0.8, left, color=COLOURS[kind], label=kind)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("percent of the drawings", color=SOFT)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=3, frameon=False, fontsize=8)
    tidy(axes, f"{title}: what kind of answer")


def bars(result: Result, axes: Any) -> None:
    """Right answers by form of question."""
    found = forms(result.judged)
    places = range(len(found))
    held = axes.barh(places, [one.percent for one in found], 0.7, color=COLOURS["the name"])
    axes.bar_label(held, fmt="%.0f", padding=3, fontsize=8)
    axes.set_yticks(places, [f"{one.name} ({one.asked})" for one in found])
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel("percent right", color=SOFT)
    tidy(axes, f"{result.task}, by form of question")


def heat(title: str, found: Matrix, axes: Any) -> None:
    """True by said, each row in shares of its truth, the counts written in."""
    shares = [[count / max(1, sum(row)) for count in row] for row in found.counts]
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1.15, aspect="auto")
    for y, row in enumerate(found.counts):
        for x, count in enumerate(row):
            if count:
                ink = "white" if shares[y][x] > 0.6 else INK
                axes.text(x, y, str(count), ha="center", va="center", color=ink, fontsize=8)
    shown = ["".join(c for c in one if c.isprintable()) for one in found.said]
    said = [one if len(one) <= LONG else one[:LONG] + "..." for one in shown]
    axes.set_xticks(range(len(said)), said, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(found.truths)), found.truths, fontsize=8)
    axes.set_xlabel("said", color=SOFT)
    axes.set_ylabel("true", color=SOFT)
    tidy(axes, f"{title}: {100 * found.right / max(1, found.total):.1f}% of {found.total} right")


def tidy(axes: Any, title: str) -> None:
    """A plain title, no box."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
