"""What a run says when it ends: `summary.json` and the last line on the terminal."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Summary:
    """Counts of a whole run, across resumptions."""

    final: Path | None
    steps: int
    samples: int
    tokens: int
    supervised_tokens: int
    skipped: int
    seconds: float
    waited: float
    first_loss: float
    last_loss: float
    validation_loss: float
    steps_left_out: int
    spikes: int
    memory: int
    flops: float = 0.0
    mfu: float | None = None
    best: Path | None = None
    best_step: int = 0
    best_loss: float = math.nan
    probe: float = math.nan
    datasets: tuple[Mapping[str, Any], ...] = ()
    """Of every data set: name, version, sha256, licence, samples, skipped, weight, seen."""
    stopped_by: str = ""
    stop_signal: int = 0

    @property
    def sentence(self) -> str:
        """One line for the user."""
        rate = self.samples / self.seconds if self.seconds else 0.0
        used = "" if self.mfu is None else f", MFU {100 * self.mfu:.1f}%"
        better = self.best is not None and self.best != self.final
        best = f"; best on held-out records at step {self.best_step}: {self.best}" if better else ""
        return (
            f"{self.steps} steps, {self.samples} samples ({self.skipped} skipped) in "
            f"{self.seconds:.0f} s ({rate:.1f} samples/s, {100 * self.data_share:.0f}% waiting for "
            f"data{used}, {self.memory / 2**30:.1f} GiB); loss {self.first_loss:.3f} -> "
            f"{self.last_loss:.3f}{best}."
        )

    @property
    def data_share(self) -> float:
        """Share of the time in which the model waited for data."""
        return self.waited / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """For `summary.json`; a loss that never was, or was not finite, is null."""
        values = asdict(self)
        values |= {name: None for name in _LOSSES if not math.isfinite(values[name])}
        values |= {n: str(values[n]) for n in ("final", "best") if values[n] is not None}
        return values


_LOSSES = ("first_loss", "last_loss", "validation_loss", "best_loss", "probe")


def finished(run: Path) -> Summary | None:
    """The summary of a run that has nothing left to do, or None."""
    file = run / "summary.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not values.get("final"):
        return None
    values |= {name: math.nan for name in _LOSSES if values.get(name) is None}
    best = run / Path(values["best"]).name if values.get("best") else None
    values["datasets"] = tuple(values.get("datasets", ()))
    return Summary(**{**values, "final": run / "final", "best": best})
