"""What is said of every step: its line in the metrics, and a warning that names its samples."""

import math
from typing import Any

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
    _name_skipped(job, step)
    _watch(job, step, outcome)
    (samples,) = job.ranks.total([len(step.sample_ids)])
    job.tally.add(int(samples), outcome, seconds, waited)
    line = _line(job, int(samples), outcome, share, seconds, waited)
    if job.done % job.recipe.log_every == 0 or job.done == job.total:
        job.write(line)
    if math.isfinite(outcome.loss):
        job.progress.step(line)


def _name_skipped(job: Run, step: Step) -> None:
    """Every skipped sample stands in the metrics, the first of a run also on the terminal."""
    for number, problem in enumerate(step.problems, len(job.feed.named) - len(step.problems)):
        event = {"event": "skipped", "step": job.done}
        job.write({**event, "samples": [problem.sample], "why": problem.sentence})
        if number < MOST_NAMED:
            job.progress.say(f"skipped sample {problem.sample!r}: {problem.sentence}")


def check_first(step: Step) -> None:
    """A run that would learn nothing stops at once, with the reason."""
    if step.rows and sum(int(row.supervised.sum()) for row in step.rows) == 0:
        raise DataError(
            f"The first batch (samples {_names(step)}) has no token to learn from. Each record "
            'needs a "gpt" turn with text, and max_length must reach it.'
        )


def _watch(job: Run, step: Step, outcome: Outcome) -> None:
    """Name the samples of a step whose loss is not finite or far above the running mean."""
    tally = job.tally
    if outcome.supervised == 0:
        return
    if not outcome.applied:
        job.write({"event": "not finite", "step": job.done, "samples": step.sample_ids})
        job.progress.say(
            f"step {job.done}: loss or gradient is not finite, the step is left out; "
            f"samples {_names(step)}"
        )
        if tally.failed_in_a_row + 1 >= MOST_FAILED_STEPS:
            raise NevaError(
                f"The loss was not finite {MOST_FAILED_STEPS} steps in a row, last at step "
                f"{job.done} with samples {_names(step)}. Look at them, or lower the learning rate."
            )
    elif job.done > BEFORE_SPIKES and outcome.loss > job.recipe.spike_factor * tally.mean_loss:
        tally.spikes += 1
        job.write({"event": "spike", "step": job.done, "samples": step.sample_ids})
        job.progress.say(
            f"step {job.done}: loss {outcome.loss:.2f} is far above the mean "
            f"{tally.mean_loss:.2f}; samples {_names(step)}"
        )


def _line(
    job: Run, samples: int, outcome: Outcome, share: float, seconds: float, waited: float
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
        "memory": peak_memory(),
        "seconds": job.tally.seconds,
    }


def _names(step: Step) -> str:
    shown = ", ".join(step.sample_ids[:8])
    return shown if len(step.sample_ids) <= 8 else f"{shown}, ... ({len(step.sample_ids)} in all)"
