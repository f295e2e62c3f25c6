"""Whether torch.compile pays on a CPU: stage 1 of ViT-B/32's shape, three ways, in turn.

    python benchmarks/compile.py      # three minutes, of which two compile

Fused layers (`neva.train.fused`), Hugging Face's layers, and these compiled one by one with dynamic
lengths; the same rows, one step of each after the other.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from train_job import Job, prepare

from neva.model import Checkpoint
from neva.model.forward import PackedInputs
from neva.train.feed import Feed
from neva.train.learner import Learner

STEPS, WARM = 10, 4


def rows_of(job: Job, parent: Checkpoint) -> list[list[PackedInputs]]:
    """Four steps' rows, with random features in the pictures' place."""
    feed = Feed.open(job.recipe(cache=False), parent, [job.data], job.images)
    feed.attach(None, print)  # type: ignore[arg-type]  # no cache, so no model is asked
    with feed:
        steps = [feed.next_step() for _ in range(4)]
    seen = torch.randn(job.batch_size, parent.image_tokens, job.vision["width"]).bfloat16()
    return [
        [replace(row, images=None, features=seen[: len(row.images)]) for row in step.rows]
        for step in steps
        if step is not None
    ]


def main() -> None:
    """Print the first step's seconds and the median of those after the warm-up."""
    job = Job("vit-b32", "pretrain", 4, 8, 0, Path("benchmarks/work"))
    prepare(job)
    parent = Checkpoint.open(job.model)
    rows, recipe = rows_of(job, parent), job.recipe(cache=False, pack=False)
    learners = {
        name: Learner(parent, recipe, fused=name == "fused", tower=False)
        for name in ("fused", "hugging face", "compiled")
    }
    for layer in learners["compiled"].model.model.language_model.layers:
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
