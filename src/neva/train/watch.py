"""What is said of every step: its line in the metrics, and a warning that names its samples.

A step's samples lie on several ranks, and the first one writes: names are gathered from all.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch

from neva.data.batch import Problem
from neva.errors import DataError, NevaError
from neva.train.feed import Step
from neva.train.job import Run
from neva.train.learner import Outcome
from neva.train.metrics import peak_memory

MOST_FAILED_STEPS = 5  # in a row, with a loss or gradient that is not finite
MOST_NAMED = 10  # skipped samples named on the terminal
BEFORE_SPIKES = 20  # steps without a judgement: the first losses fall fast


def report(
    job: Run, step: Step, outcome: Outcome, share: float, seconds: float, waited: float
) -> None:
    """Count a step, watch its loss, and write its line."""
    mine = [len(step.sample_ids), len(step.problems), job.meter.flops(step.rows)]
    samples, problems, flops = job.ranks.total(mine)
    if problems:
        name_skipped(job, step.problems)
    _watch(job, step, outcome)
    job.tally.add(int(samples), outcome, seconds, waited, flops)
    line = _line(job, int(samples), outcome, share, seconds, waited, flops)
    if job.done % job.recipe.log_every == 0 or job.done == job.total:
        job.write(line)
    if math.isfinite(outcome.loss):
        job.progress.step(line)


def name_skipped(job: Run, problems: Sequence[Problem]) -> None:
    """Every skipped sample stands in the metrics, the first of a run also on the terminal.

    Each rank gives its own; all must ask.
    """
    for sample, why in _from_all(job, [(p.sample, p.sentence) for p in problems]):
        job.write({"event": "skipped", "step": job.done, "samples": [sample], "why": why})
        job.named += 1
        if job.named <= MOST_NAMED:
            job.progress.say(f"skipped sample {sample!r}: {why}")


def _from_all(job: Run, mine: Sequence[Any]) -> list[Any]:
    """What plain JSON every rank brings, in their order; all must ask."""
    if job.ranks.world == 1:
        return list(mine)
    words = json.dumps(list(mine)).encode()
    padded = torch.zeros(int(job.ranks.most(len(words))), dtype=torch.uint8)
    padded[: len(words)] = torch.frombuffer(bytearray(words), dtype=torch.uint8)
    brought = job.ranks.gather_bytes(padded)[:: job.ranks.tensor]
    return [one for state in brought for one in json.loads(bytes(state.tolist()).rstrip(b"\0"))]


def check_first(step: Step) -> None:
    """A run that would learn nothing stops at once, with the reason."""
    if step.rows and sum(int(row.supervised.sum()) for row in step.rows) == 0:
        raise DataError(
            f"The first batch (samples {_names(step.sample_ids)}) has no token to learn from. Each "
            'record needs a "gpt" turn with text, and max_length must reach it.'
        )


def _watch(job: Run, step: Step, outcome: Outcome) -> None:
    """Name the samples of a step whose loss is not finite or far above the running mean."""
    tally = job.tally
    if outcome.supervised == 0:
        return
    if not outcome.applied:
        names = _from_all(job, step.sample_ids)
        job.write({"event": "not finite", "step": job.done, "samples": names})
        job.progress.say(
            f"step {job.done}: loss or gradient is not finite, the step is left out; "
            f"samples {_names(names)}"
        )
        if tally.failed_in_a_row + 1 >= MOST_FAILED_STEPS:
            raise NevaError(
                f"The loss was not finite {MOST_FAILED_STEPS} steps in a row, last at step "
                f"{job.done} with samples {_names(names)}. Look at them, or lower the learning "
                "rate."
            )
    elif job.done > BEFORE_SPIKES and outcome.loss > job.recipe.spike_factor * tally.mean_loss:
        tally.spikes += 1
        names = _from_all(job, step.sample_ids)
        levels = {"loss": outcome.loss, "mean": tally.mean_loss}
        job.write({"event": "spike", "step": job.done, "samples": names, "levels": levels})
        job.progress.say(
            f"step {job.done}: loss {outcome.loss:.2f} is far above the mean "
            f"{tally.mean_loss:.2f}; samples {_names(names)}"
        )


def _line(
    job: Run,
    samples: int,
    outcome: Outcome,
    share: float,
    seconds: float,
    waited: float,
    flops: float,
) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    return {
        "step": job.done,
        "loss": outcome.loss if math.isfinite(outcome.loss) else None,
        "learning_rate": share * job.recipe.learning_rate,
        "gradient_norm": outcome.norm if math.isfinite(outcome.norm) else None,
        "samples": samples,
        "tokens": outcome.tokens,
        "supervised_tokens": outcome.supervised,
        "samples_per_second": samples / seconds,
        "tokens_per_second": outcome.tokens / seconds,
        "data_share": waited / seconds,
        "flops": flops,
        "mfu": job.meter.utilisation(flops, seconds),
        "memory": peak_memory(),
        "seconds": job.tally.seconds,
    }


def _names(samples: Sequence[str]) -> str:
    shown = ", ".join(samples[:8])
    return shown if len(samples) <= 8 else f"{shown}, ... ({len(samples)} in all)"
