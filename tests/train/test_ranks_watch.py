"""What is watched and cached on two processes: no hang, nothing twice, what one process finds."""

import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from neva.data.features import _header
from neva.errors import NevaError
from neva.model import Checkpoint
from neva.train.recipe import Recipe

WATCHED = Recipe(
    stage="finetune",
    learning_rate=3e-3,
    batch_size=5,
    max_steps=6,
    max_length=512,
    row_tokens=512,
    precision="fp32",
    threads=1,
    save_every=2,
    feature_cache=True,
    validation_share=0.3,
    validate_every=2,
    probe_every=3,
    max_bad_share=0.3,
)
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["neva.train.loop", "peft", "matplotlib.figure"])

Inputs = tuple[Path, Path, Path, Path]


def work(
    rank: int, world: int, port: int, recipe: Recipe, inputs: Inputs, out: Path, cache: Path
) -> None:
    """One rank, as torchrun starts it; what stops it is left in a file."""
    words = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in words.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "XDG_CACHE_HOME": str(cache)}
    from neva.train.loop import run

    model, data, images, probe = inputs
    try:
        run(recipe, model, [data], images, out, resume=True, probe=probe)
    except NevaError as error:
        out.with_name(f"error-{rank}").write_text(str(error))


def train(world: int, recipe: Recipe, inputs: Inputs, out: Path, cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        _FORK.Process(target=work, args=(rank, world, port, recipe, inputs, out, cache))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()  # whoever hangs
    assert codes == [0] * world


@pytest.fixture(scope="module")
def inputs(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Inputs:
    """One record's image is broken; five questions, an odd number, one of them without image."""
    folder = tmp_path_factory.mktemp("watched")
    records = json.loads(data.read_text())
    records[3]["image"] = "gone.png"
    (folder / "data.json").write_text(json.dumps(records))
    asked = [{"image": f"{n}.png", "question": f"Which colour, {n}?"} for n in range(4)]
    (folder / "probe.json").write_text(json.dumps([*asked, {"question": "Is it?"}]))
    return parent.path, folder / "data.json", pictures, folder / "probe.json"


def told(out: Path) -> tuple[list[tuple[int, float]], list[dict[str, object]]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [(x["step"], x["validation_loss"]) for x in lines if "validation_loss" in x]
    answers = (out / "probe" / "answers.jsonl").read_text().splitlines()
    return losses, [json.loads(line) for line in answers]


@pytest.mark.parametrize("placement", [{}, {"shard": 0}])
def test_two_processes_watch_what_one_does(
    placement: dict[str, int], inputs: Inputs, tmp_path: Path
) -> None:
    """Probe, held-out loss, best checkpoint and cache; and again on the complete cache."""
    made = {}
    for name, world, more in (("one", 1, {}), ("two", 2, placement), ("again", 2, placement)):
        cache = tmp_path / ("cache1" if world == 1 else "cache2")
        train(world, WATCHED.with_values(**more), inputs, tmp_path / name, cache)
        made[name] = told(tmp_path / name)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["skipped"] == 1 and summary["best_step"] in (2, 4, 6)
    (losses, answers), (expected, said) = made["two"], made["one"]
    assert [step for step, _ in losses] == [2, 4, 6]
    assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in expected], rel=1e-4)
    assert answers == said and [line["step"] for line in answers] == [0, 3, 6]
    assert made["two"] == made["again"]
    assert cached(tmp_path / "cache2") == sorted(set(cached(tmp_path / "cache1")))


def cached(folder: Path) -> list[str]:
    """Digests of all images in a cache, each as often as it was computed."""
    shards = folder.rglob("features-*.safetensors")
    return sorted(d for f in shards for d in json.loads(_header(f)["__metadata__"]["digests"]))


def test_what_stops_one_stops_all(inputs: Inputs, tmp_path: Path) -> None:
    """One image too many is broken, and one rank read it: both say so, none waits for ever."""
    recipe = WATCHED.with_values(max_bad_share=0.01)
    train(2, recipe, inputs, tmp_path / "run", tmp_path / "cache")
    errors = [(tmp_path / f"error-{rank}").read_text() for rank in (0, 1)]
    assert errors[0] == errors[1] and "max_bad_share" in errors[0]
    assert not (tmp_path / "run").exists()
