"""A loss that is not finite changes nothing, names its samples, and in a row ends the run."""

import json
from pathlib import Path

import pytest
import torch

from neva.errors import NevaError
from neva.model import Checkpoint
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from neva.train.feed import Feed
from neva.train.learner import Learner
from neva.train.loop import run
from neva.train.recipe import Recipe

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
