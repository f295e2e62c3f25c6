"""A loss that is not finite changes nothing, names its samples, and in a row ends the run."""

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from neva.commands.finetune import finetune
from neva.errors import NevaError
from neva.model import Checkpoint
from neva.model.forward import PackedInputs
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from neva.train import loop
from neva.train.feed import Feed
from neva.train.learner import Learner
from neva.train.loop import run
from neva.train.recipe import Recipe
from neva.train.story import read_story

QUICK = Recipe(batch_size=4, max_steps=8, max_length=256, row_tokens=256, threads=1)


def test_a_step_that_is_not_finite_leaves_the_weights(
    parent: Checkpoint, data: Path, pictures: Path
) -> None:
    feed = Feed.open(QUICK, parent, [data], pictures)
    learner = Learner(parent, QUICK)
    with feed:
        feed.attach(None, print)
        step = feed.next_step()
    assert step is not None
    norm = learner.model.model.language_model.norm.weight
    before = {name: master.clone() for name, master in learner.trained().items()}
    kept = norm.detach().clone()
    norm.data.fill_(torch.inf)
    outcome = learner.learn(step.rows, 1.0)
    assert not outcome.applied
    for name, master in learner.trained().items():
        assert torch.equal(master, before[name])
    norm.data.copy_(kept)
    assert learner.learn(step.rows, 1.0).applied  # nothing of the bad gradient is left


def test_a_broken_model_ends_the_run_with_its_samples(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    model = load_model(parent)
    model.model.language_model.norm.weight.data.fill_(torch.nan)
    broken = save_checkpoint(model, parent, tmp_path / "broken", parent.provenance)
    with pytest.raises(NevaError, match=r"not finite 5 steps in a row, last at step 5 .*sample-"):
        run(QUICK, broken.path, [data], pictures, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    events = [line for line in map(json.loads, lines) if line.get("event") == "not finite"]
    assert len(events) == 5 and all(event["samples"] for event in events)


def test_a_spike_is_named(parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path) -> None:
    """A rate far too high makes the loss jump; the run goes on and says whose samples it was."""
    wild = QUICK.with_values(
        stage="finetune", learning_rate=0.9, warmup_ratio=0.9, max_steps=60, batch_size=1,
        spike_factor=1.01, grad_clip=0.0,
    )  # fmt: skip
    summary = run(wild, parent.path, [data], pictures, tmp_path / "run")
    assert summary.spikes > 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    events = [line for line in map(json.loads, lines) if line.get("event") == "spike"]
    assert len(events) == summary.spikes and all(len(e["samples"]) == 1 for e in events)


@pytest.fixture
def poisoned(
    parent: Checkpoint, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Records of which one has a letter that makes the loss of its step infinite."""
    (letter,) = parent.tokenizer.encode("Z", add_special_tokens=False).ids

    def backward(self: Learner, rows: Sequence[PackedInputs], supervised: int) -> float:
        total = whole(self, rows, supervised)
        return torch.inf if any(letter in row.ids for row in rows) else total

    whole = Learner._backward
    monkeypatch.setattr(Learner, "_backward", backward)
    records = json.loads(data.read_text())
    records[3]["conversations"][0]["value"] += " Z"
    file = tmp_path / "one.json"
    file.write_text(json.dumps(records))
    return file


PASS = QUICK.with_values(stage="finetune", max_steps=24, batch_size=1)


def test_a_run_with_one_bad_step_comes_to_its_end(
    poisoned: Path, parent: Checkpoint, pictures: Path, tmp_path: Path
) -> None:
    summary = run(PASS, parent.path, [poisoned], pictures, tmp_path / "run")
    story = read_story(tmp_path / "run")
    assert [line["loss"] for line in story.steps].count(None) == 1 == summary.steps_left_out
    assert [line["samples"] for line in story.events("not finite")] == [["sample-3"]]
    assert story.summary and story.summary["steps"] == 24
    for name in ("loss.png", "report.html", "final"):
        assert (tmp_path / "run" / name).exists()


def test_sigterm_after_a_bad_step_stops_and_the_run_goes_on(
    poisoned: Path,
    parent: Checkpoint,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(job: Any, step: Any, outcome: Any, *more: float) -> None:
        report(job, step, outcome, *more)
        if not outcome.applied:
            signal.raise_signal(signal.SIGTERM)

    report: Callable[..., None] = loop.report
    monkeypatch.setattr(loop, "report", told)
    app = typer.Typer()
    app.command()(finetune)
    words = (
        f"{parent.path} --data {poisoned} --images {pictures} -o {tmp_path / 'run'} --max-steps 24"
    )
    more = "--batch-size 1 --max-length 256 --row-tokens 256 --threads 1 --resume"
    stopped = CliRunner().invoke(app, [*words.split(), *more.split()])
    assert stopped.exit_code == 128 + signal.SIGTERM, stopped.output
    told_of = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told_of["stopped_by"] == "SIGTERM" and told_of["steps_left_out"] == 1
    monkeypatch.setattr(loop, "report", report)
    assert CliRunner().invoke(app, [*words.split(), *more.split()]).exit_code == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 24


def test_a_step_of_broken_samples_only_is_left_out(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """One record of 24 is below what is allowed, wherever it stands."""
    records = json.loads(data.read_text())
    records[3]["image"] = "gone.png"
    file = tmp_path / "some.json"
    file.write_text(json.dumps(records))
    live = QUICK.with_values(max_steps=24, batch_size=1, feature_cache=False)
    for seed in (0, 1):
        out = tmp_path / str(seed)
        summary = run(live.with_values(seed=seed), parent.path, [file], pictures, out)
        assert (summary.steps, summary.samples, summary.skipped) == (24, 23, 1)
        assert [line["samples"] for line in read_story(out).steps].count(0) == 1


def test_a_held_out_loss_that_is_not_finite_is_never_the_best(
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([torch.nan, 3.0, torch.nan])
    monkeypatch.setattr(Learner, "judge", lambda *_: (next(losses), 1))
    watched = PASS.with_values(max_steps=6, validation_share=0.3, validate_every=2)
    summary = run(watched, parent.path, [data], pictures, tmp_path / "run")
    assert (summary.best_step, summary.best_loss) == (4, 3.0)
    assert [x["validation_loss"] for x in read_story(tmp_path / "run").validations] == [3.0]
    assert '"validation_loss": null' in (tmp_path / "run" / "summary.json").read_text()
