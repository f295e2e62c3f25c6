"""How a run looks while it runs: a bar above its figures on a terminal, plain lines elsewhere.

On stderr. Speeds are running means, so that they can be read while they change.
"""

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 10.0
MEMORY = 0.9  # of the running means
_SPEEDS = ("samples_per_second", "tokens_per_second", "mfu", "data_share")


class _Bar(Progress):
    """A progress bar with a line of figures below it, which a narrow terminal cuts short."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Bar, then figures."""
        yield from super().get_renderables()
        yield Text(self.figures, style="dim", no_wrap=True, overflow="ellipsis")


class RunProgress:
    """Shows the steps of a run. Use as a context manager."""

    def __init__(self, title: str, total: int, done: int = 0, shown: bool = True) -> None:
        self._console = Console(file=sys.stderr, soft_wrap=True, highlight=False, quiet=not shown)
        self._total = total
        self._title = title
        self._last = 0.0
        self._start = (time.monotonic(), done)
        self._means: dict[str, float] = {}
        self._bar: _Bar | None = None
        self._task: TaskID | None = None
        if shown and self._console.is_terminal:
            self._bar = _Bar(
                TextColumn("[bold]{task.description}"),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:.0f}%"),
                TimeRemainingColumn(),
                console=self._console,
                expand=True,
            )
            self._task = self._bar.add_task(title, total=total, completed=done)

    def __enter__(self) -> "RunProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, line: Mapping[str, Any]) -> None:
        """Show a line of the metrics, at most every PLAIN_SECONDS where there is no terminal."""
        done = int(line["step"])
        text = self._figures(line)
        if self._bar and self._task is not None:
            self._bar.figures = text
            self._bar.update(self._task, completed=done)
            return
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or done == self._total:
            self._last = now
            left = self._left(now, done)
            self.say(f"{self._title} {done}/{self._total}  {text}  {left} left")

    def _figures(self, line: Mapping[str, Any]) -> str:
        """The most wanted first: a narrow terminal shows as many as it can."""
        speed = {name: self._mean(name, line.get(name)) for name in _SPEEDS}
        used = "" if speed["mfu"] is None else f"  MFU {100 * speed['mfu']:.1f}%"
        return (
            f"loss {line['loss']:.3f}  rate {line['learning_rate']:.1e}  "
            f"{speed['samples_per_second']:.1f} samples/s  {speed['tokens_per_second']:.0f} "
            f"tokens/s{used}  data {100 * (speed['data_share'] or 0):.0f}%  "
            f"{line['memory'] / 2**30:.1f} GiB"
        )

    def _mean(self, name: str, value: float | None) -> float | None:
        """The running mean of a speed; None where it is unknown."""
        if value is not None:
            before = self._means.get(name, value)
            self._means[name] = MEMORY * before + (1 - MEMORY) * value
        return self._means.get(name)

    def _left(self, now: float, done: int) -> str:
        began, first = self._start
        seconds = (now - began) / max(done - first, 1) * (self._total - done)
        minutes, seconds = divmod(int(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"

    def say(self, sentence: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(sentence, markup=False)
