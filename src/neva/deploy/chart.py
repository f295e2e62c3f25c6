"""Figures beside their baselines as bars, drawn by matplotlib where it is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neva.deploy.beside import column_of

COLOURS = {"score": "#2f6f4f", "text": "#c98a2b", "shuffled": "#8a6fae", "no model": "#9aa0a6"}
COLOURS["base LM"] = "#4f7cac"
LABELS = {
    "score": "with its picture",
    "text": "without the picture",
    "shuffled": "another's picture",
    "no model": "no model",
    "base LM": "its base LM",
}
INCHES = 0.24  # a bar's
POINTS = frozenset({"mme"})  # not percent: they would run out of the axis


def bars(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, float]]:
    """(task and figure, column, percent) of each result's headline; "text, 600" is "text". Tasks
    that count points have none.
    """
    found = []
    for result in results:
        if result["task"] in POINTS:
            continue
        name = result["headline"]["name"] if "headline" in result else next(iter(result["metrics"]))
        columns = {column_of(result): result["metrics"], **result.get("beside", {})}
        columns["no model"] = result["floor"]
        found += [
            (f"{result['task']}\n{name}", column.partition(",")[0], float(figures[name]))
            for column, figures in columns.items()
            if name in figures and column.partition(",")[0] in LABELS
        ]
    return found


def draw_chart(results: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Write a PNG; False (and nothing written) without matplotlib or without results."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    drawn = bars(results)
    if not drawn:
        return False
    groups = list(dict.fromkeys(group for group, _, _ in drawn))
    columns = [name for name in LABELS if any(column == name for _, column, _ in drawn)]
    places: list[float] = []
    for number, (group, _, _) in enumerate(drawn):
        places.append(number + groups.index(group) * 1.2)  # a gap between the tasks
    figure = Figure(figsize=(8, 1.3 + INCHES * (places[-1] + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for column in columns:
        chosen = [(at, one[2]) for at, one in zip(places, drawn, strict=True) if one[1] == column]
        held = axes.barh(
            [at for at, _ in chosen], [value for _, value in chosen], 0.82,
            color=COLOURS[column], label=LABELS[column],
        )  # fmt: skip
        axes.bar_label(held, fmt="%.1f", padding=3, fontsize=8)
    centres = [
        sum(at for at, one in zip(places, drawn, strict=True) if one[0] == group)
        / sum(one[0] == group for one in drawn)
        for group in groups
    ]
    axes.set_yticks(centres, groups)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel("percent, greedy")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    return True
