"""Exact resume: killed at any moment and resumed, a run makes the same weights, bit for bit."""

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from neva.errors import NevaError
from neva.model import Checkpoint
from neva.train.recipe import Recipe

# Dropout in the adapter makes the random state matter; a save after every step makes kills hit it.
RECIPE = Recipe(
    stage="finetune",
    learning_rate=1e-2,
    batch_size=3,
    max_steps=20,
    max_length=512,
    row_tokens=512,
    threads=1,
    lora=True,
    lora_rank=4,
    lora_alpha=8.0,
    lora_dropout=0.2,
    save_every=1,
)
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["neva.train.loop", "peft", "matplotlib.figure"])

Inputs = tuple[Path, Path, Path]


def work(recipe: Recipe, inputs: Inputs, out: Path) -> None:
    """In a process of its own: start the run, or go on with it."""
    from neva.train.loop import run

    checkpoint, data, pictures = inputs
    summary = run(recipe, checkpoint, [data], pictures, out, resume=True)
    if summary.stopped_by:
        raise SystemExit(128 + summary.stop_signal)


def start(recipe: Recipe, inputs: Inputs, out: Path) -> ForkServerProcess:
    process = _FORK.Process(target=work, args=(recipe, inputs, out))
    process.start()
    return process


def finish(recipe: Recipe, inputs: Inputs, out: Path) -> str:
    """Run to the end; the sha256 of the weights that were made."""
    process = start(recipe, inputs, out)
    process.join()
    assert process.exitcode == 0
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 21))
    return Checkpoint.open(out / "final").sha256


@pytest.fixture(scope="module")
def inputs(parent: Checkpoint, data: Path, pictures: Path) -> Inputs:
    return parent.path, data, pictures


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, float]]:
    """The weights of an uninterrupted run, and the seconds it took."""
    began = time.monotonic()
    made = finish(RECIPE, inputs, tmp_path_factory.mktemp("whole") / "run")
    yield made, time.monotonic() - began


def killed_and_resumed(
    inputs: Inputs, out: Path, seconds: float, kills: int, seed: int
) -> tuple[str, int]:
    """Kill a run `kills` times at random moments; (sha256, how often it was really under way)."""
    moments, hit = random.Random(seed), 0
    for _ in range(kills):
        process = start(RECIPE, inputs, out)
        process.join(moments.uniform(0.0, seconds))
        hit += process.exitcode is None
        process.kill()
        process.join()
        done = sorted((out / "checkpoints").glob("step-*")) if out.exists() else []
        assert len(done) <= RECIPE.keep_last + 1
    return finish(RECIPE, inputs, out), hit


def test_killed_at_a_few_moments(whole: tuple[str, float], inputs: Inputs, tmp_path: Path) -> None:
    made, hit = killed_and_resumed(inputs, tmp_path / "run", whole[1] / 2, kills=3, seed=1)
    assert made == whole[0]
    assert hit >= 1


@pytest.mark.slow
def test_killed_at_twenty_moments(whole: tuple[str, float], inputs: Inputs, tmp_path: Path) -> None:
    """Twenty kills over several runs, so that late moments (the last writing) are hit too."""
    kills, number = 0, 0
    while kills < 20:
        number += 1
        out = tmp_path / f"run{number}"
        made, hit = killed_and_resumed(inputs, out, whole[1], kills=3, seed=100 + number)
        assert made == whole[0]
        kills += hit


def test_with_a_lean_optimiser(inputs: Inputs, tmp_path: Path) -> None:
    """The whole LM learns; its masters and moments are saved as they lie in memory."""
    lean = RECIPE.with_values(lora=False, lean_optimizer=True)
    whole = finish(lean, inputs, tmp_path / "whole")
    process = start(lean, inputs, tmp_path / "run")
    while not list((tmp_path / "run" / "checkpoints").glob("step-0000000[3-9]")):
        assert process.exitcode is None
        time.sleep(0.005)
    process.kill()
    process.join()
    assert finish(lean, inputs, tmp_path / "run") == whole


def test_sigterm_saves_and_stops(whole: tuple[str, float], inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rare = RECIPE.with_values(save_every=1000)  # only the stop itself saves
    process = start(rare, inputs, out)
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert process.exitcode is None
        time.sleep(0.005)
    process.terminate()
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    (left,) = (out / "checkpoints").iterdir()
    assert 2 <= int(left.name.removeprefix("step-")) < 20
    assert not (out / "final").exists()
    assert json.loads((out / "summary.json").read_text())["stopped_by"] == "SIGTERM"
    assert finish(RECIPE, inputs, out) == whole[0]


@pytest.mark.parametrize("complete", [False, True])
def test_resume_refuses_another_recipe_or_other_data(
    complete: bool, inputs: Inputs, data: Path, tmp_path: Path
) -> None:
    """Also where nothing is left to do: what was made is not what is asked for."""
    from neva.train.loop import run

    out, checkpoint, pictures = tmp_path / "run", inputs[0], inputs[2]
    short = RECIPE.with_values(max_steps=2)
    run(short, checkpoint, [data], pictures, out)
    if not complete:
        (out / "summary.json").unlink()
    with pytest.raises(NevaError, match=r"learning_rate was 0.01 and is 0.1"):
        run(short.with_values(learning_rate=0.1), checkpoint, [data], pictures, out, resume=True)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(data.read_text())[:12]))
    with pytest.raises(NevaError, match="the data is not the one"):
        run(short, checkpoint, [other], pictures, out, resume=True)
    with pytest.raises(NevaError, match="the checkpoint is not the one"):
        run(short, out / "final", [data], pictures, out, resume=True)
    assert (out / "final").is_dir()
    again = run(short.with_values(save_every=5), checkpoint, [data], pictures, out, resume=True)
    assert again.final == out / "final" and again.steps == 2
