"""What `neva plan --cpu` says a run needs, beside the peak of the run's own process.

    python benchmarks/plan.py --json plan.json      # six minutes

Random weights of four shapes, two steps each; the peak is Linux' VmHWM of a process that does
nothing else. The plan knows LLaVA's mean lengths, not these samples'.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from train_job import SHAPES, Job, prepare

from train import BATCH, peak_memory

RUNS: dict[str, tuple[str, dict[str, bool]]] = {
    "stage 1, cached features": ("pretrain", {"cache": True}),
    "stage 1, CLIP live": ("pretrain", {"cache": False}),
    "stage 1, nothing packed": ("pretrain", {"cache": True, "pack": False}),
    "stage 2": ("finetune", {"cache": True}),
    "stage 2, lean optimiser": ("finetune", {"cache": True, "lean_optimizer": True}),
    "stage 2, recomputing": ("finetune", {"cache": True, "checkpointing": True}),
    "stage 2, LoRA": ("lora", {"cache": True}),
}
"""Name -> stage, and what differs in the recipe."""


def planned(job: Job, settings: dict[str, bool]) -> float:
    """GiB by arithmetic."""
    from neva.model import Checkpoint
    from neva.train.plan import GIB
    from neva.train.plan_cpu import cpu_memory
    from neva.train.shape import Shape

    shape = Shape.of_config(Checkpoint.open(job.model).config)
    return cpu_memory(shape, job.recipe(**settings)).total / GIB


def measured(job: Job, settings: dict[str, bool]) -> float:
    """GiB of a process of its own."""
    values = {**vars(job), "work": str(job.work)}
    asked = json.dumps({"job": values, "settings": settings})
    done = subprocess.run(
        [sys.executable, __file__, "--measure", asked], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def measure(job: Job, settings: dict[str, bool]) -> None:
    """Run it in this process and print the peak."""
    import shutil

    from neva.train.loop import run

    out = job.work / "plan-run"
    shutil.rmtree(out, ignore_errors=True)
    run(job.recipe(**settings), job.model, [job.data], job.images, out)
    print(f"\n{peak_memory() / 2**30}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.measure:
        values = o.measure["job"]
        measure(Job(**{**values, "work": Path(values["work"])}), o.measure["settings"])
        return
    rows: list[dict[str, Any]] = []
    print("| shape | run | plan GiB | measured GiB | off by |\n|---|---|---|---|---|")
    for shape in o.shape or SHAPES:
        for name, (stage, settings) in RUNS.items():
            job = Job(shape, stage, 2, BATCH[shape], 0, o.work)
            prepare(job)
            plan, real = planned(job, settings), measured(job, settings)
            rows.append({"shape": shape, "run": name, "plan": plan, "measured": real})
            off = 100 * (plan / real - 1)
            print(f"| {shape} | {name} | {plan:.2f} | {real:.2f} | {off:+.0f} % |", flush=True)
            if o.json:
                o.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
