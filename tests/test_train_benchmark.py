"""The training benchmark's own arithmetic: rates without the warm-up, ratios to the best peer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).resolve().parent.parent / "benchmarks")


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def run(step: float, memory: float) -> dict[str, Any]:
    return {
        "seconds": [99.0, step, step],
        "waits": [9.0, step / 10, step / 10],
        "samples": [4, 4, 4],
        "supervised": [1000, 20, 40],
        "losses": [7.0, 6.0, 5.0],
        "memory": memory * 2**30,
        "outside": 3.0,
    }


def test_the_warm_up_is_not_counted_and_ratios_are_to_the_best_peer() -> None:
    from train import figures, table

    ours = figures(run(1.0, 2.0), [1e9, 1e9, 3e9], peak=4e9)
    assert ours["samples_per_second"] == 4 and ours["supervised_per_second"] == 30
    assert ours["mfu"] == pytest.approx(0.5) and ours["wait"] == pytest.approx(0.1)
    assert ours["first_loss"] == 7 and ours["last_loss"] == 5.5
    peers = [figures(run(*x), [1e9] * 3, peak=4e9) for x in ((2.0, 8.0), (4.0, 5.0))]
    lines = table({"neva": ours, "hf lean": peers[0], "trl": peers[1]})
    assert "2.00x" in lines[0] and "0.40x" in lines[0]
    assert "1.00x" in lines[1] and "1.60x" in lines[1]
    assert "0.50x" in lines[2] and "1.00x" in lines[2]


def test_peers_batches_are_padded_on_the_right_and_learn_nothing_there() -> None:
    from train_peers import collate

    samples = [
        {"ids": np.arange(n), "labels": np.arange(n), "pixels": np.zeros((3, 2, 2), np.float32)}
        for n in (3, 5)
    ]
    batch = collate(samples)
    assert batch["input_ids"].tolist()[0] == [0, 1, 2, 0, 0]
    assert batch["labels"].tolist()[0] == [0, 1, 2, -100, -100]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["pixel_values"].shape == (2, 3, 2, 2)
