"""Masters begin at the parent's own numbers, and come together on one process only."""

import json
import multiprocessing
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import write_clip, write_language
from test_optimizer import Kept

from neva.data.datasets import Dataset
from neva.model import Checkpoint, read_tensors
from neva.model.arrays import as_tensor
from neva.model.compose import compose
from neva.train.feed import Feed
from neva.train.learner import Learner
from neva.train.loop import run
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe

BF16 = Recipe(
    stage="finetune", precision="bf16", batch_size=4, max_length=256, row_tokens=256, threads=1
)
WAYS: list[dict[str, Any]] = [
    {}, {"lean_optimizer": True}, {"stage": "pretrain"}, {"lora": True, "lora_rank": 2},
]  # fmt: skip
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["neva.train.learner"])


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A parent with more bits than bfloat16 keeps."""
    folder = tmp_path_factory.mktemp("fine")
    language = write_language(folder / "llama", "llama", max_position_embeddings=1024)
    clip = write_clip(folder / "clip")
    return compose(clip, language, "mlp2x_gelu", folder / "model", dtype="float32")


def apart(parent: Checkpoint, masters: Mapping[str, torch.Tensor]) -> float:
    """The largest difference between masters and the parent's weights."""
    stored = read_tensors(parent)
    shared = [name for name in masters if name in stored]
    assert shared
    return max(
        float((as_tensor(stored[name]).float() - masters[name]).abs().max()) for name in shared
    )


@pytest.mark.parametrize("way", WAYS)
def test_masters_begin_at_the_parents_own_numbers(way: dict[str, Any], fine: Checkpoint) -> None:
    learner = Learner(fine, BF16.with_values(**way))
    masters = learner.trained()
    assert apart(fine, masters) == 0
    for name, parameter in learner.optimizer.parameters.items():
        assert parameter.dtype == torch.bfloat16
        torch.testing.assert_close(parameter.float(), masters[name], rtol=2**-8, atol=0)


def test_a_float16_parents_numbers_are_kept_too(fine: Checkpoint, tmp_path: Path) -> None:
    """LLaVA 1.5's own are float16."""
    half = Path(copytree(fine.path, tmp_path / "half"))
    file = half / "model.safetensors"
    save_file({n: t.half() for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    parent = Checkpoint.open(half)
    assert apart(parent, Learner(parent, BF16).trained()) == 0


def test_a_run_that_learns_nothing_writes_what_it_began_with(
    fine: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    tiny = BF16.with_values(learning_rate=1e-12, max_steps=1)
    run(tiny, fine.path, [Dataset(str(data))], pictures, tmp_path / "run")
    begun, made = read_tensors(fine), read_tensors(Checkpoint.open(tmp_path / "run" / "final"))
    for name in begun:
        np.testing.assert_allclose(made[name], begun[name], rtol=1e-6, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_learner_goes_on_from_its_state_bit_for_bit(
    way: dict[str, Any], fine: Checkpoint, data: Path, pictures: Path
) -> None:
    recipe = BF16.with_values(learning_rate=1e-3, **way)
    with Feed.open(recipe, fine, [data], pictures) as feed:
        feed.attach(None, print)
        steps = [step.rows for _ in range(3) if (step := feed.next_step())]
    one = Learner(fine, recipe)
    one.learn(steps[0], 1.0)
    kept = Kept({name: tensor.clone() for name, tensor in one.optimizer.state().items()})
    other = Learner(fine, recipe)
    other.optimizer.load(kept)
    for rows in steps[1:]:
        one.learn(rows, 1.0)
        other.learn(rows, 1.0)
    whole = other.trained()
    assert all(torch.equal(master, whole[name]) for name, master in one.trained().items())


def hold(
    rank: int, world: int, port: int, parent: Path, placement: dict[str, int], out: Path
) -> None:
    """One rank: what it holds of the masters while it learns and when they come together."""
    words = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in words.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    ranks = Ranks.join(placement.get("tensor_parallel", 1))
    checkpoint = Checkpoint.open(parent)
    learner = Learner(checkpoint, BF16.with_values(**placement), ranks)
    optimizer: Any = learner.optimizer
    masters = learner.trained()
    told = {
        "pieces": sum(master.numel() for master in optimizer.masters.values()),
        "kept": sum(tensor.numel() for tensor in masters.values()),
        "devices": sorted({str(tensor.device) for tensor in masters.values()}),
        "apart": apart(checkpoint, masters) if masters else None,
    }
    (out / f"{rank}.json").write_text(json.dumps(told))
    ranks.leave()


@pytest.mark.parametrize(
    "placement",
    [
        {"shard": 0},
        {"tensor_parallel": 2},
        pytest.param({"shard": 2, "tensor_parallel": 2}, marks=pytest.mark.slow),
    ],
)
def test_one_process_holds_what_all_have_learned(
    placement: dict[str, int], fine: Checkpoint, tmp_path: Path
) -> None:
    world = 4 if len(placement) == 2 else 2
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        _FORK.Process(target=hold, args=(rank, world, port, fine.path, placement, tmp_path))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0] * world
    first, *others = (json.loads((tmp_path / f"{r}.json").read_text()) for r in range(world))
    total = sum(master.numel() for master in Learner(fine, BF16).trained().values())
    assert first["kept"] == total and first["devices"] == ["cpu"] and first["apart"] == 0
    assert [told["kept"] for told in others] == [0] * (world - 1)
    assert all(told["pieces"] < total for told in (first, *others))
