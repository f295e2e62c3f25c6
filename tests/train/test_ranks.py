"""Several processes over gloo make the steps of one: same losses, samples once each, resumable."""

import json
import multiprocessing
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from neva.model import Checkpoint, read_tensors
from neva.train.recipe import Recipe

# 24 records of which four are text only: shares of a step differ in kind, and one can be empty.
RECIPE = Recipe(
    stage="finetune",
    learning_rate=3e-3,
    batch_size=5,
    max_steps=8,
    max_length=512,
    row_tokens=512,
    precision="fp32",
    threads=1,
    save_every=3,
)
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["neva.train.loop", "peft", "matplotlib.figure"])

Inputs = tuple[Path, Path, Path]


def work(rank: int, world: int, port: int, recipe: Recipe, inputs: Inputs, out: Path) -> None:
    """One rank, as torchrun starts it."""
    words = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in words.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    from neva.train.loop import run

    run(recipe, inputs[0], [inputs[1]], inputs[2], out, resume=True)


def train(world: int, recipe: Recipe, inputs: Inputs, out: Path) -> list[float]:
    """Losses of a run of `world` processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        _FORK.Process(target=work, args=(rank, world, port, recipe, inputs, out))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(250)
    assert [process.exitcode for process in ranks] == [0] * world
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    assert [line["samples"] for line in lines] == [5] * len(lines)
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def inputs(parent: Checkpoint, data: Path, pictures: Path) -> Inputs:
    return parent.path, data, pictures


def check(
    world: int, inputs: Inputs, tmp_path: Path, recipe: Recipe = RECIPE, **placement: int
) -> None:
    one = train(1, recipe, inputs, tmp_path / "one")
    many = train(world, recipe.with_values(**placement), inputs, tmp_path / "many")
    np.testing.assert_allclose(many, one, rtol=1e-4)
    a, b = (read_tensors(Checkpoint.open(tmp_path / n / "final")) for n in ("one", "many"))
    for name in a:
        old, new = a[name].astype(np.float32), b[name].astype(np.float32)
        np.testing.assert_allclose(old, new, rtol=2e-2, atol=1e-3)


def test_two_processes_are_one(inputs: Inputs, tmp_path: Path) -> None:
    check(2, inputs, tmp_path)


@pytest.mark.slow
def test_four_processes_are_one(inputs: Inputs, tmp_path: Path) -> None:
    check(4, inputs, tmp_path)


def test_a_run_of_two_goes_on_as_one(inputs: Inputs, tmp_path: Path) -> None:
    """Killed after step 3, resumed on another number of processes: the same samples, no others."""
    whole = train(1, RECIPE, inputs, tmp_path / "whole")
    train_until_killed(RECIPE, inputs, tmp_path / "run")
    rest = train(1, RECIPE, inputs, tmp_path / "run")
    np.testing.assert_allclose(rest, whole, rtol=1e-4)


def train_until_killed(recipe: Recipe, inputs: Inputs, out: Path) -> None:
    """Two processes, both killed as soon as a checkpoint is there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        _FORK.Process(target=work, args=(rank, 2, port, recipe, inputs, out)) for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    while not list((out / "checkpoints").glob("step-*")):
        assert all(process.exitcode is None for process in ranks)
    for process in ranks:
        process.kill()
        process.join()
