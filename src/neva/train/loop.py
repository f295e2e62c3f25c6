"""A run, from top to bottom: open, claim the folder, learn step by step, save, finish.

summary = run(Recipe(batch_size=32), Path("model"), [Path("chat.json")], Path("images"), out)
"""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from neva.errors import DataError, NevaError
from neva.model import Checkpoint
from neva.train.feed import Feed, Step
from neva.train.finish import draw, write_final
from neva.train.folder import RunFolder, check_free, claim
from neva.train.learner import Learner, Outcome
from neva.train.metrics import MetricsLog, environment, peak_memory
from neva.train.progress import RunProgress
from neva.train.recipe import Recipe
from neva.train.schedule import rate, total_steps
from neva.train.state import Snapshot, newest, random_state, restore_random_state, save
from neva.train.stopper import Stopper
from neva.train.summary import Summary, finished

MOST_FAILED_STEPS = 5  # in a row, with a loss or gradient that is not finite
LOSS_MEMORY = 0.95  # of the running mean that a spike is measured against
BEFORE_SPIKES = 20  # steps without a judgement: the first losses fall fast


@dataclass
class Tally:
    """What a run has counted so far, across resumptions; goes into every checkpoint."""

    samples: int = 0
    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    mean_loss: float = math.nan
    failed_in_a_row: int = 0
    failed: int = 0
    spikes: int = 0
    first_loss: float = math.nan
    validation_loss: float = math.nan

    def add(self, step: Step, outcome: Outcome, seconds: float, waited: float) -> None:
        """Count one step."""
        self.samples += len(step.sample_ids)
        self.tokens += outcome.tokens
        self.supervised += outcome.supervised
        self.seconds += seconds
        self.waited += waited
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
    """The parts of a run that the loop hands around."""

    recipe: Recipe
    learner: Learner
    feed: Feed
    folder: RunFolder
    log: MetricsLog
    progress: RunProgress
    total: int
    done: int = 0
    tally: Tally = field(default_factory=Tally)


def run(
    recipe: Recipe,
    checkpoint: Path,
    data: Sequence[Path],
    images: Path | None,
    out: Path,
    resume: bool = False,
) -> Summary:
    """Train `checkpoint` on LLaVA JSON files; what was made is in `out/final`.

    NevaError for whatever the user can mend; a run that could not begin leaves no folder behind.
    """
    check_free(out, resume)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    parent = Checkpoint.open(checkpoint)
    if resume and (made := finished(out)):
        return made
    feed = Feed.open(recipe, parent, data, images)
    before = newest(out / "checkpoints") if resume else None
    learner = Learner(parent, recipe, _device())
    total = total_steps(feed.samples, recipe)
    progress = RunProgress(recipe.stage, total, before.step if before else 0)
    feed.attach(learner.model, progress.say)
    folder = claim(out, recipe, _inputs(parent, feed))
    folder.write("environment.json", environment(torch.get_num_threads()))
    log = MetricsLog(folder.metrics, int(before.values["metrics_bytes"]) if before else 0)
    job = Run(recipe, learner, feed, folder, log, progress, total)
    if before:
        _restore(job, before)
    try:
        with Stopper() as stopper, progress, feed:
            _learn(job, stopper)
            return _finish(job, stopper)
    except NevaError:
        if job.done == 0:
            folder.discard()
        raise
    finally:
        log.close()


def _learn(job: Run, stopper: Stopper) -> None:
    """Every step of the run, or as many as there is time for."""
    recipe = job.recipe
    while job.done < job.total and not stopper.signal:
        began = time.perf_counter()
        step = job.feed.next_step()
        waited = time.perf_counter() - began
        if step is None:
            break
        if job.done == 0:
            _check_first(step)
        share = rate(job.done, job.total, recipe)
        outcome = job.learner.learn(step.rows, share)
        job.done += 1
        seconds = time.perf_counter() - began
        _watch(job, step, outcome)
        job.tally.add(step, outcome, seconds, waited)
        line = _line(job, step, outcome, share, seconds, waited)
        if job.done % recipe.log_every == 0 or job.done == job.total:
            job.log.write(line)
        if math.isfinite(outcome.loss):
            job.progress.step(line)
        if recipe.validate_every and job.done % recipe.validate_every == 0:
            validate(job)
        if recipe.save_every and job.done % recipe.save_every == 0 and job.done < job.total:
            save_state(job)
    if stopper.signal and job.done < job.total:
        save_state(job)


def _check_first(step: Step) -> None:
    """A run that would learn nothing stops at once, with the reason."""
    if sum(int(row.supervised.sum()) for row in step.rows) == 0:
        raise DataError(
            f"The first batch (samples {_names(step)}) has no token to learn from. Each record "
            'needs a "gpt" turn with text, and max_length must reach it.'
        )


def _watch(job: Run, step: Step, outcome: Outcome) -> None:
    """Name the samples of a step whose loss is not finite or far above the running mean."""
    tally = job.tally
    if not outcome.applied:
        job.log.write({"event": "not finite", "step": job.done, "samples": step.sample_ids})
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
        job.log.write({"event": "spike", "step": job.done, "samples": step.sample_ids})
        job.progress.say(
            f"step {job.done}: loss {outcome.loss:.2f} is far above the mean "
            f"{tally.mean_loss:.2f}; samples {_names(step)}"
        )


def _line(
    job: Run, step: Step, outcome: Outcome, share: float, seconds: float, waited: float
) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    return {
        "step": job.done,
        "loss": outcome.loss if math.isfinite(outcome.loss) else None,
        "learning_rate": share * job.recipe.learning_rate,
        "gradient_norm": outcome.norm if math.isfinite(outcome.norm) else None,
        "samples": len(step.sample_ids),
        "tokens": outcome.tokens,
        "supervised_tokens": outcome.supervised,
        "samples_per_second": len(step.sample_ids) / seconds,
        "tokens_per_second": outcome.tokens / seconds,
        "data_share": waited / seconds,
        "memory": peak_memory(),
        "seconds": job.tally.seconds,
    }


def validate(job: Run) -> None:
    """The loss of the held-out records, into the metrics."""
    rows = job.feed.held_out()
    total, count = job.learner.judge(rows)
    if count:
        job.tally.validation_loss = total / count
        job.log.write({"step": job.done, "validation_loss": total / count})
        job.progress.say(f"step {job.done}: validation loss {total / count:.4f}")


def save_state(job: Run) -> None:
    """All that is needed to go on exactly here."""
    tensors = {**job.learner.optimizer.state(), "random": random_state()}
    values = {
        "tally": vars(job.tally),
        "feed": job.feed.state(),
        "metrics_bytes": job.log.length,
    }
    save(Snapshot(job.done, tensors, values), job.folder.checkpoints, job.recipe.keep_last)


def _restore(job: Run, before: Snapshot) -> None:
    tensors = dict(before.tensors)
    restore_random_state(tensors.pop("random"))
    job.learner.optimizer.load(tensors)
    job.feed.restore(before.values["feed"])
    job.tally = Tally(**before.values["tally"])
    job.done = before.step


def _finish(job: Run, stopper: Stopper) -> Summary:
    """Write what the run made, unless it was stopped early."""
    stopped = bool(stopper.signal) and job.done < job.total
    if not stopped:
        if job.recipe.validation_share:
            validate(job)
        job.progress.say(f"writing {job.folder.final}")
        job.folder.clear_outputs()
        write_final(job.learner, job.feed, job.folder)
    tally = job.tally
    summary = Summary(
        final=None if stopped else job.folder.final,
        steps=job.done,
        samples=tally.samples,
        tokens=tally.tokens,
        supervised_tokens=tally.supervised,
        skipped=job.feed.skipped + len(job.feed.flaws),
        seconds=tally.seconds,
        waited=tally.waited,
        first_loss=tally.first_loss,
        last_loss=tally.mean_loss,
        validation_loss=tally.validation_loss,
        steps_left_out=tally.failed,
        spikes=tally.spikes,
        memory=peak_memory(),
        stopped_by=stopper.name if stopped else "",
        stop_signal=int(stopper.signal or 0) if stopped else 0,
    )
    draw(job.folder, f"{job.recipe.stage} of {job.learner.parent.path.name}")
    job.folder.write("summary.json", summary.to_json())
    if summary.final:
        shutil.rmtree(job.folder.checkpoints, ignore_errors=True)
    return summary


def _inputs(parent: Checkpoint, feed: Feed) -> dict[str, Any]:
    """What the run is made from, to be recognised when it is resumed."""
    return {
        "checkpoint": str(parent.path),
        "checkpoint_sha256": parent.sha256,
        "data": [str(path) for path in feed.data],
        "data_sha256": list(feed.sha256),
    }


def _names(step: Step) -> str:
    shown = ", ".join(step.sample_ids[:8])
    return shown if len(step.sample_ids) <= 8 else f"{shown}, ... ({len(step.sample_ids)} in all)"


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
