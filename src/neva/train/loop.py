"""A run, from top to bottom: open, claim the folder, learn step by step, save, finish.

summary = run(Recipe(batch_size=32), Path("model"), [Path("chat.json")], Path("images"), out)
"""

import math
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neva.data.datasets import Dataset
from neva.errors import NevaError
from neva.model import Checkpoint
from neva.train.best import forget_others, keep_best, read_best
from neva.train.feed import Feed
from neva.train.finish import draw, write_final
from neva.train.folder import RunFolder, check_free, claim, recorded_recipe
from neva.train.job import Run, Tally
from neva.train.learner import Learner
from neva.train.meter import Meter
from neva.train.metrics import MetricsLog, environment, peak_memory
from neva.train.peak import Peak, find_peak
from neva.train.precision import advice, dtype_of, settled
from neva.train.probe import Probe, add_answers, begin_sheet, calm, look_up
from neva.train.progress import RunProgress
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe
from neva.train.report import write_report
from neva.train.saver import Saver
from neva.train.schedule import rate, total_steps
from neva.train.state import Saved, Snapshot, newest, random_state, restore_random_state
from neva.train.stopper import Stopper
from neva.train.summary import Summary, finished
from neva.train.tower import Tower
from neva.train.trackers import close_all, names_in, open_trackers
from neva.train.watch import check_first, name_skipped, report


def run(
    recipe: Recipe,
    checkpoint: Path,
    data: Sequence[Path | str | Dataset],
    images: Path | str | Sequence[Path | str] | None,
    out: Path,
    resume: bool = False,
    licences: Sequence[str] = (),
    probe: Path | None = None,
) -> Summary:
    """Train `checkpoint` on LLaVA JSON files; what was made is in `out/final`.

    `data` may have weights and mix files (`neva.data.datasets`), `images` archives and several
    places (`neva.data.stores`). `licences` of the files go into the checkpoint's provenance.
    `probe` is a file of questions that the model is asked while it learns
    (`neva.train.questions`).
    NevaError for whatever the user can mend; a run that could not begin leaves no folder behind.
    """
    names_in(recipe.track)  # a program that is not there is missed now, not after loading
    ranks = Ranks.join(recipe.tensor_parallel)
    check_free(out, resume)
    ranks.wait()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed + ranks.reader)
    parent = Checkpoint.open(checkpoint)
    feed = Feed.open(recipe, parent, data, images, licences)
    begun = recorded_recipe(out) if resume and (out / "recipe.json").is_file() else None
    decided = settled(recipe, ranks.device, begun)
    if resume and (made := finished(out)):
        claim(out, decided, _inputs(parent, feed))  # what was made is what is asked for now
        return made
    before = newest(out / "checkpoints") if resume else None
    job = _open(decided, parent, feed, out, before, ranks, probe)
    if said := advice(recipe, decided, ranks.device):
        job.progress.say(said)
    try:
        with Stopper() as stopper, job.progress, feed:
            _learn(job, stopper)
            return _finish(job, stopper)
    except NevaError:
        if not job.tally.supervised:  # nothing was learned
            job.folder.discard()
        elif ranks.first:
            write_report(job.folder.path)
        raise
    finally:
        close_all(job.trackers)
        if job.log:
            job.log.close()
        ranks.leave()


def _open(
    recipe: Recipe,
    parent: Checkpoint,
    feed: Feed,
    out: Path,
    before: Saved | None,
    ranks: Ranks,
    questions: Path | None,
) -> Run:
    """Cache what is to be cached, load the model, claim the folder, go to where the run was."""
    total, done = total_steps(feed.samples, recipe), before.step if before else 0
    progress = RunProgress(recipe.stage, total, done, shown=ranks.first)
    asked = look_up(questions, feed) if questions else []
    shown = [name for one in asked for name in one.question.images]
    feed.attach(Tower(parent, ranks.device, dtype_of(recipe.precision)), progress.say, ranks, shown)
    learner = Learner(parent, recipe, ranks, tower=not recipe.feature_cache)
    probe = Probe(asked, learner, feed) if questions else None
    log, peak, trackers = None, None, []
    if ranks.first:
        folder = claim(out, recipe, _inputs(parent, feed))
        peak = _peak(recipe, folder)
        folder.write("environment.json", environment(torch.get_num_threads(), ranks.world, peak))
        trackers = open_trackers(recipe.track, folder, recipe.to_json(), done)
        if probe:
            begin_sheet(folder, probe, done)
        log = MetricsLog(folder.metrics, int(before.values["metrics_bytes"]) if before else 0)
    else:
        folder = RunFolder(out, fresh=False)
    saver = Saver(folder.checkpoints, recipe.keep_last, ranks)
    meter = Meter.of(learner, peak)
    job = Run(
        recipe, learner, feed, folder, saver, log, progress, total, ranks, meter, trackers, probe
    )
    if before:
        _restore(job, before)
    else:  # later checkpoints know of these lines
        flaws = feed.unreadable() if ranks.first else []
        name_skipped(job, flaws)
    return job


def _learn(job: Run, stopper: Stopper) -> None:
    """Every step of the run, or as many as there is time for."""
    recipe = job.recipe
    if job.done == 0:
        ask_probe(job)
    while job.done < job.total and not _stopped(job, stopper):
        began = time.perf_counter()
        step = job.feed.next_step()
        waited = time.perf_counter() - began
        if step is None:
            break
        if job.done == 0:
            check_first(step)
        share = rate(job.done, job.total, recipe)
        outcome = job.learner.learn(step.rows, share)
        job.done += 1
        seconds = time.perf_counter() - began
        report(job, step, outcome, share, seconds, waited)
        if recipe.validate_every and job.done % recipe.validate_every == 0:
            validate(job)
        if recipe.probe_every and job.done % recipe.probe_every == 0 and job.done < job.total:
            ask_probe(job)
        if recipe.save_every and job.done % recipe.save_every == 0 and job.done < job.total:
            save_state(job)
        job.saver.settle()
    if stopper.signal and job.done < job.total:
        save_state(job)
    job.saver.wait()


def _stopped(job: Run, stopper: Stopper) -> bool:
    """Whether any rank was told to stop; then all of them are."""
    signals = job.ranks.most(float(stopper.signal or 0))
    if signals and not stopper.signal:
        stopper.signal = signal.SIGTERM
    return bool(signals)


def validate(job: Run) -> None:
    """The loss of the held-out records, into the metrics."""
    tally = job.tally
    with calm(job.learner.model):
        total, count = job.learner.judge(job.feed.held_out())
    name_skipped(job, job.feed.take_fresh())
    if not count:
        return
    loss = tally.validation_loss = total / count
    finite = math.isfinite(loss)
    job.write({"step": job.done, "validation_loss": loss if finite else None})
    job.progress.say(f"step {job.done}: validation loss {loss:.4f}")
    if not finite or not (job.recipe.keep_best and job.recipe.validate_every):
        return
    if not loss >= tally.best_loss:
        tally.best_loss, tally.best_step = loss, job.done
        masters = job.learner.trained()
        if job.ranks.first and job.done < job.total:
            keep_best(job.folder.checkpoints, job.done, masters)
            forget_others(job.folder.checkpoints, job.done)


def ask_probe(job: Run) -> None:
    """The probe's answers with the weights as they are, into RUN/probe and the report."""
    if job.probe is None:
        return
    answers = job.probe.answers()
    pairs = zip(job.probe.questions, answers, strict=True)
    right = [good for question, said in pairs if (good := question.judge(said)) is not None]
    if right:
        job.tally.probe_share = sum(right) / len(right)
        job.write({"step": job.done, "probe": job.tally.probe_share})
        job.progress.say(f"step {job.done}: probe {sum(right)} of {len(right)} right")
    if job.ranks.first:
        add_answers(job.folder, job.done, answers)
        write_report(job.folder.path)


def save_state(job: Run) -> None:
    """All that is needed to go on exactly here; each rank gives what it holds."""
    states = job.ranks.gather_bytes(random_state())
    tensors = dict(job.learner.optimizer.state())
    tensors |= {f"random.{rank}": state for rank, state in enumerate(states)}
    values = {
        "tally": vars(job.tally),
        "feed": job.feed.state(),
        "metrics_bytes": job.log.length if job.log else 0,
        "placement": _placement(job),
    }
    job.saver.save(Snapshot(job.done, tensors, values))
    if job.ranks.first:
        forget_others(job.folder.checkpoints, job.tally.best_step)
        write_report(job.folder.path)


def _placement(job: Run) -> list[int]:
    """On how many processes, and how the model lies on them."""
    return [job.ranks.world, job.learner.grid.shards, job.learner.grid.tensor]


def _restore(job: Run, before: Saved) -> None:
    job.learner.optimizer.load(before)
    job.feed.restore(before.values["feed"])
    job.tally = Tally(**before.values["tally"])
    job.done = before.step
    was = before.values.get("placement") or [before.values["world"], 1, 1]
    if was == _placement(job):
        restore_random_state(before.read(f"random.{job.ranks.rank}"))
    else:
        job.progress.say(
            f"resumed on {job.ranks.world} processes instead of {was[0]}, or divided otherwise: "
            "every sample is seen once, but sums are rounded and dropout is drawn in another order"
        )


def _finish(job: Run, stopper: Stopper) -> Summary:
    """Write what the run made, unless it was stopped early."""
    stopped = bool(stopper.signal) and job.done < job.total
    every = job.recipe.validate_every
    if not stopped and job.recipe.validation_share and not (every and job.done % every == 0):
        validate(job)
    job.feed.share_bad()
    best = None
    if not stopped:
        ask_probe(job)
        job.learner.optimizer.forget()  # on every rank: room for what comes together
        masters = job.learner.trained()
        if job.ranks.first:
            best = _write(job, masters)
    summary = _summary(job, stopper, stopped, best)
    if job.ranks.first:
        draw(job.folder, f"{job.recipe.stage} of {job.learner.parent.path.name}")
        job.folder.write("summary.json", summary.to_json())
        if summary.final:
            shutil.rmtree(job.folder.checkpoints, ignore_errors=True)
        write_report(job.folder.path)
    job.ranks.wait()
    return summary


def _write(job: Run, masters: Mapping[str, Tensor]) -> Path | None:
    """Write `final`, and `best` where another step was better; where the best is."""
    folder, tally = job.folder, job.tally
    job.progress.say(f"writing {folder.final}")
    folder.clear_outputs()
    write_final(job.learner, masters, job.feed, folder.final, folder.adapter)
    if not tally.best_step or tally.best_step == job.done:
        return folder.final if tally.best_step else None
    better = read_best(folder.checkpoints, tally.best_step)
    if better is None:
        job.progress.say(f"the weights of step {tally.best_step}, the best, are not there any more")
        return None
    job.progress.say(f"writing {folder.best}, of step {tally.best_step}")
    beside = folder.path / "best-adapter"
    write_final(job.learner, better, job.feed, folder.best, beside)
    return folder.best


def _summary(job: Run, stopper: Stopper, stopped: bool, best: Path | None) -> Summary:
    tally = job.tally
    return Summary(
        final=None if stopped else job.folder.final,
        steps=job.done,
        samples=tally.samples,
        tokens=tally.tokens,
        supervised_tokens=tally.supervised,
        skipped=job.feed.skipped + len(job.feed.flaws) + job.feed.skipped_held_out,
        seconds=tally.seconds,
        waited=tally.waited,
        first_loss=tally.first_loss,
        last_loss=tally.mean_loss,
        validation_loss=tally.validation_loss,
        steps_left_out=tally.failed,
        spikes=tally.spikes,
        memory=peak_memory(),
        flops=tally.flops,
        mfu=job.meter.utilisation(tally.flops, tally.seconds),
        best=best,
        best_step=tally.best_step,
        best_loss=tally.best_loss,
        probe=tally.probe_share,
        datasets=tuple(asdict(used) for used in job.feed.datasets()),
        stopped_by=stopper.name if stopped else "",
        stop_signal=int(stopper.signal or 0) if stopped else 0,
    )


def _inputs(parent: Checkpoint, feed: Feed) -> dict[str, Any]:
    """What the run is made from, to be recognised when it is resumed."""
    return {
        "checkpoint": str(parent.path),
        "checkpoint_sha256": parent.sha256,
        "data": [str(path) for path in feed.data],
        "data_sha256": list(feed.sha256),
        "images": feed.images,
        "datasets": [asdict(used) for used in feed.datasets()],
        "parents_datasets": [asdict(used) for used in parent.provenance.datasets],
    }


def _peak(recipe: Recipe, folder: RunFolder) -> Peak | None:
    """The device's peak, measured once a run where it must be measured."""
    return find_peak(recipe.precision, (folder.read("environment.json") or {}).get("peak"))
