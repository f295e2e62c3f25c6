"""Ways to compute the LM's layers on a CPU: stage 1 of ViT-B/32's shape, one step of each in turn.

    python benchmarks/layers.py             # a minute
    python benchmarks/layers.py --compile   # two more

Fused layers (`neva.train.fused`), these packed (`neva.train.packed`), Hugging Face's, and with
--compile Hugging Face's compiled by torch one by one, for rows of any length.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from train_job import Job, prepare, read_steps

from neva.model import Checkpoint
from neva.model.forward import PackedInputs
from neva.train.learner import Learner

STEPS, WARM = 16, 4


def rows_of(job: Job, parent: Checkpoint) -> list[list[PackedInputs]]:
    """Four steps' rows, with random features in the pictures' place."""
    seen = torch.randn(job.batch_size, parent.image_tokens, job.vision["width"]).bfloat16()
    return [
        [replace(row, images=None, features=seen[: len(row.images)]) for row in step.rows]
        for step in read_steps(job, parent)[1]
    ]


def main() -> None:
    """Print the first step's seconds and the median of those after the warm-up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    o = parser.parse_args()
    job = Job("vit-b32", "pretrain", 4, 8, 0, Path("benchmarks/work"))
    prepare(job)
    parent = Checkpoint.open(job.model)
    rows = rows_of(job, parent)
    ways = ["fused", "packed", "hugging face", *(["compiled"] if o.compile else [])]
    learners = {
        way: Learner(
            parent,
            job.recipe(cache=False, pack=way == "packed"),
            fused=way in {"fused", "packed"},
            tower=False,
        )
        for way in ways
    }
    for layer in learners["compiled"].model.model.language_model.layers if o.compile else ():
        layer.compile(dynamic=True)
    times: dict[str, list[float]] = {name: [] for name in learners}
    for step in range(STEPS):
        for name, learner in learners.items():
            began = time.perf_counter()
            learner.learn(rows[step % len(rows)], 1.0)
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        print(f"{name:12} first {seconds[0]:6.2f} s, later {statistics.median(seconds[WARM:]):.3f}")


if __name__ == "__main__":
    main()
