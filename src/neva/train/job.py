"""The parts of a run that the loop hands around, and what it has counted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neva.train.feed import Feed
from neva.train.folder import RunFolder
from neva.train.learner import Learner, Outcome
from neva.train.meter import Meter
from neva.train.metrics import MetricsLog
from neva.train.probe import Probe
from neva.train.progress import RunProgress
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe
from neva.train.saver import Saver
from neva.train.trackers import Tracker

LOSS_MEMORY = 0.95  # of the running mean that a spike is measured against


@dataclass
class Tally:
    """What a run has counted so far, across resumptions; goes into every checkpoint."""

    samples: int = 0
    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    flops: float = 0.0
    mean_loss: float = math.nan
    failed_in_a_row: int = 0
    failed: int = 0
    spikes: int = 0
    first_loss: float = math.nan
    validation_loss: float = math.nan
    best_loss: float = math.nan
    best_step: int = 0
    probe_share: float = math.nan

    def add(
        self, samples: int, outcome: Outcome, seconds: float, waited: float, flops: float
    ) -> None:
        """Count one step."""
        self.samples += samples
        self.tokens += outcome.tokens
        self.supervised += outcome.supervised
        self.seconds += seconds
        self.waited += waited
        self.flops += flops
        if outcome.supervised == 0:
            return  # all samples of the step were broken
        if not outcome.applied:
            self.failed += 1
            self.failed_in_a_row += 1
            return
        self.failed_in_a_row = 0
        if math.isnan(self.mean_loss):
            self.first_loss = self.mean_loss = outcome.loss
        self.mean_loss = LOSS_MEMORY * self.mean_loss + (1 - LOSS_MEMORY) * outcome.loss


@dataclass
class Run:
    """A run under way. `log` is None on every rank but the first."""

    recipe: Recipe
    learner: Learner
    feed: Feed
    folder: RunFolder
    saver: Saver
    log: MetricsLog | None
    progress: RunProgress
    total: int
    ranks: Ranks
    meter: Meter
    trackers: Sequence[Tracker] = ()
    probe: Probe | None = None
    done: int = 0
    tally: Tally = field(default_factory=Tally)
    named: int = 0
    """Skipped samples that have been named."""

    def write(self, line: Mapping[str, Any]) -> None:
        """A line of the metrics, from the one rank that writes."""
        if self.log:
            self.log.write(line)
        for tracker in self.trackers:
            tracker.write(line)
