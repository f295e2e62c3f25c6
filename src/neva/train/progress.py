"""How a run looks while it runs: one live line on a terminal, plain lines elsewhere. On stderr."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0


class RunProgress:
    """Shows the steps of a run. Use as a context manager."""

    def __init__(self, title: str, total: int, done: int = 0, shown: bool = True) -> None:
        self._console = Console(file=sys.stderr, soft_wrap=True, highlight=False, quiet=not shown)
        self._total = total
        self._title = title
        self._last = 0.0
        self._start = (time.monotonic(), done)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if shown and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[line]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(title, total=total, completed=done, line="")

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
        text = (
            f"loss {line['loss']:.3f}  rate {line['learning_rate']:.1e}  "
            f"{line['samples_per_second']:.1f} samples/s  {line['tokens_per_second']:.0f} tokens/s"
            f"  data {100 * line['data_share']:.0f}%  {line['memory'] / 2**30:.1f} GiB"
        )
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, line=text)
            return
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or done == self._total:
            self._last = now
            left = self._left(now, done)
            self.say(f"{self._title} {done}/{self._total}  {text}  {left} left")

    def _left(self, now: float, done: int) -> str:
        began, first = self._start
        seconds = (now - began) / max(done - first, 1) * (self._total - done)
        minutes, seconds = divmod(int(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"

    def say(self, sentence: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(sentence, markup=False)
