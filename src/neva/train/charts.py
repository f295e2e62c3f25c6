"""Line charts as inline SVG: no library, no network, readable in light and dark.

Figures are drawn in the page's own colours (classes `a` and `b`); `report.js` reads a chart's
points from its `data-points` to show values under the pointer.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

Point = tuple[float, float]
Look = Literal["line", "faint", "dots"]

WIDTH, HEIGHT = 520, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 28
MOST_POINTS = 400  # a longer series is drawn as the means of as many stretches


@dataclass(frozen=True)
class Series:
    """Points in the order of x. `colour` is a class of the page: a or b."""

    name: str
    points: Sequence[Point]
    look: Look = "line"
    colour: str = "a"


def chart(title: str, series: Sequence[Series], marks: Sequence[float] = ()) -> str:
    """A figure with its title, legend and axes; `marks` are upright lines at these x.

    Empty text where there are fewer than two points.
    """
    series = [Series(s.name, thinned(s.points), s.look, s.colour) for s in series if s.points]
    points = [point for one in series for point in one.points]
    if len({x for x, _ in points}) < 2:
        return ""
    xs, ys = ticks([x for x, _ in points]), ticks([y for _, y in points])
    frame = _Frame(min(x for x, _ in points), max(x for x, _ in points), ys[0], ys[-1])
    body = [frame.grid(xs, ys), *(frame.mark(x) for x in marks), *(frame.draw(s) for s in series)]
    data = json.dumps([[s.name, s.colour, _short(s.points)] for s in series])
    edges = json.dumps([frame.left, frame.right, LEFT, WIDTH - RIGHT, WIDTH])
    legend = "".join(
        f"<span class='key {s.colour} {s.look}'>{escape(s.name)}</span>" for s in series
    )
    return (
        f"<figure class=chart data-points='{escape(data)}' data-edges='{edges}'>"
        f"<figcaption><b>{escape(title)}</b>{legend if len(series) > 1 else ''}"
        f"<output></output></figcaption><svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img "
        f"aria-label='{escape(title)}'>{''.join(body)}"
        f"<line class=hair y1={TOP} y2={HEIGHT - BOTTOM} /></svg></figure>"
    )


@dataclass(frozen=True)
class _Frame:
    """From values to places in the picture."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        share = (value - self.left) / (self.right - self.left)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Lines and numbers of both axes."""
        lines = [
            f"<line class=grid x1={LEFT} x2={WIDTH - RIGHT} y1={self.y(y)} y2={self.y(y)} />"
            f"<text x={LEFT - 8} y={self.y(y) + 4} text-anchor=end>{number(y)}</text>"
            for y in ys
        ]
        lines += [
            f"<text x={self.x(x)} y={HEIGHT - 8} text-anchor=middle>{number(x)}</text>"
            for x in xs
            if self.left <= x <= self.right
        ]
        return "".join(lines)

    def mark(self, x: float) -> str:
        """An upright line."""
        place = self.x(x)
        return f"<line class=mark x1={place} x2={place} y1={TOP} y2={HEIGHT - BOTTOM} />"

    def draw(self, series: Series) -> str:
        """The series itself."""
        places = [(self.x(x), self.y(y)) for x, y in series.points]
        css = f"{series.look} {series.colour}"
        way = " ".join(f"{x},{y}" for x, y in places)
        dots = "".join(f"<circle class='{css}' cx={x} cy={y} r=3.5 />" for x, y in places)
        line = f"<polyline class='{css}' points='{way}' />"
        return line + dots if series.look == "dots" else line


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points: each the mean of a stretch; no point that is not finite."""
    real = [(x, y) for x, y in points if math.isfinite(y)]
    if len(real) <= most:
        return real
    edges = [round(i * len(real) / most) for i in range(most + 1)]
    stretches = [real[start:stop] for start, stop in pairwise(edges)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part))
        for part in stretches
    ]


def running_mean(points: Sequence[Point]) -> list[Point]:
    """Exponential running mean, without the pull of its start; longer where there are more."""
    memory = min(max(0.5, 1 - 8 / max(len(points), 1)), 0.98)
    mean, weight, out = 0.0, 0.0, list[Point]()
    for x, y in points:
        if math.isfinite(y):
            mean, weight = memory * mean + (1 - memory) * y, memory * weight + (1 - memory)
            out.append((x, mean / weight))
    return out


def ticks(values: Sequence[float], most: int = 5) -> list[float]:
    """Round numbers around `values`, evenly spaced: the first is not above, the last not below."""
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(abs(high), 1e-300):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A number short enough for an axis."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    if 0 < size < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.4g}"


def _short(points: Sequence[Point]) -> list[list[float]]:
    """For the page: no more digits than can be told apart."""
    return [[round(x, 1), float(f"{y:.4g}")] for x, y in points]
