"""Stage 2's rounds: each goes on with the adapter and the projector of the one before."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.make import Budget
from zoo.rounds import ROUNDS, Place, Round, grafted, train

from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.keys import PROJECTOR
from neva.model.weights import TensorFiles, read_entries, write_tensors

TINY = Path(__file__).parents[1] / "engine" / "tiny_llava.py"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = runpy.run_path(str(TINY))["write_checkpoint"](tmp_path_factory.mktemp("r") / "t")
    return made


def records(place: Place) -> None:
    """Four records about one picture, as `zoo.instructions` would leave them."""
    images = place.folder / "stage2" / "images"
    images.mkdir(parents=True)
    Image.new("RGB", (40, 40), "red").save(images / "red.png")
    turns = [
        {"from": "human", "value": "<image>\nWhat is this?"},
        {"from": "gpt", "value": "a red page"},
    ]
    rows = [{"id": str(n), "image": "red.png", "conversations": turns} for n in range(4)]
    (place.folder / "stage2" / "chat.json").write_text(json.dumps(rows))


def adapter(place: Place) -> dict[str, np.ndarray]:
    entries = read_entries(place.run / "adapter" / "adapter_model.safetensors")
    return {n: v.astype(np.float32) for n, v in TensorFiles({e.name: e for e in entries}).items()}


def test_a_round_goes_on_where_the_one_before_ended(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rounds = tuple(
        Round(name, "chatter=0", (0, 0), steps, rate, rate)
        for name, steps, rate in (("one", 2, 1e-2), ("two", 1, 1e-12))
    )
    first, second = (Place(tmp_path, one.name) for one in rounds)
    records(first)
    records(second)
    assert train(tmp_path, tiny, rounds) == second.run
    used = Checkpoint.open(second.run / "final").provenance.datasets
    assert [one.name for one in used] == ["neva-nano, one", "neva-nano, two"]  # none is forgotten
    assert all(one.seen and "CC0-1.0" in one.licence and one.version for one in used)
    learnt, kept = adapter(first), adapter(second)  # next to no rate: what was learnt stays
    assert any(value.any() for name, value in learnt.items() if "lora_B" in name)
    assert learnt.keys() == kept.keys()
    assert all(np.allclose(value, kept[name], atol=1e-6) for name, value in learnt.items())
    ends = [read_tensors(Checkpoint.open(place.run / "final")) for place in (first, second)]
    start = read_tensors(Checkpoint.open(tiny))
    moved = [name for name in start if name.startswith(PROJECTOR)]
    assert moved  # the second run reads the first's projector in bfloat16
    for name in moved:
        was, first_end, last = (np.asarray(t[name], np.float32) for t in (start, *ends))
        step = np.abs(first_end - was).max()
        assert step > 0
        assert np.abs(last - first_end).max() < max(0.2 * step, 2**-8 * np.abs(first_end).max())
    made = (second.run / "summary.json").stat().st_mtime_ns
    train(tmp_path, tiny, rounds)
    assert (second.run / "summary.json").stat().st_mtime_ns == made


def test_only_the_projector_is_taken_over(tiny: Path, tmp_path: Path) -> None:
    opened = Checkpoint.open(tiny)
    lender = grafted(tiny, tiny, tmp_path / "lender")
    changed = {n: np.asarray(v) + np.ones((), v.dtype) for n, v in read_tensors(opened).items()}
    write_tensors(lender, changed)
    out = read_tensors(Checkpoint.open(grafted(tiny, lender, tmp_path / "out")))
    for name, value in read_tensors(opened).items():
        wanted = changed[name] if name.startswith(PROJECTOR) else value
        assert np.array_equal(out[name], wanted), name


def test_every_round_has_a_plan_that_holds_its_steps() -> None:
    assert all(one.plan().names > 0 for one in Budget().rounds())
    for one in ROUNDS:
        numbers = dict(word.split("=") for word in one.records.split())
        told = sum(int(n) for name, n in numbers.items() if name not in ("seed", "chatter"))
        records = told + sum(one.talk)  # the fixed talk of `zoo.phrasing` comes on top
        assert 0.9 * 16 * one.steps < records < 1.25 * 16 * one.steps, (one.name, records)
