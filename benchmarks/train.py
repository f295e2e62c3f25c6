"""Training speed: ours against its peers on the same models, samples, batches and machine.

    PYTHONPATH=DIR python benchmarks/train.py --json train.json   # everything, about 20 minutes
    python benchmarks/train.py --quick                            # two steps of a small model

The contenders run one after another, each in a process of its own, over the same random weights
and the same samples in the same order:

    neva         packed rows, loss at supervised positions, cached CLIP features
    neva live    the same with CLIP computed in every step
    neva lean    as neva, with less memory: --no-pack --lean-optimizer
    hf llava     Trainer + LlavaForConditionalGeneration as LLaVA trains: padded batches, all
                 logits, bf16 autocast over fp32 weights, activation checkpointing
    hf lean      the same without activation checkpointing
    trl          TRL's SFTTrainer with its chunked loss over supervised positions, without
                 activation checkpointing; left out where trl is not installed: `pip install
                 --target DIR --no-deps trl datasets ...` and PYTHONPATH=DIR
    nanovlm      nanoVLM's plain loop: autocast, all logits, nothing recomputed

SmolLM2-135M's shape behind CLIP ViT-B/32's and ViT-L/14-336's; stages pretrain (the projector
learns), finetune (the LM too) and, asked for, lora. The first step of each is a warm-up and is not
counted. Filling the cache is told apart, in the last column, with everything else outside steps.
MFU counts the work that the contender's stage needs, without padding, recomputing or logits that
nobody asked for; the peak is measured. Memory is the largest resident size of the one process.
"""

import argparse
import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from train_job import SHAPES, STAGES, Job, prepare, step_work, targets

OURS: Mapping[str, Mapping[str, bool]] = {
    "neva": {"cache": True},
    "neva live": {"cache": False},
    "neva lean": {"cache": True, "pack": False, "lean_optimizer": True},
}
"""Ours: what differs in their recipes."""
CONTENDERS = (*OURS, "hf llava", "hf lean", "trl", "nanovlm")
COMPARED = ("vit-b32", "vit-l14-336")
BATCH = {"nano": 16, "vit-b32": 8, "vit-l14-336": 4, "vit-b32-360m": 8}
HEAD = (
    "contender  samples/s  x peer supervised/s   MFU   wait peak GiB x peer   first    last outside"
)


def run_ours(job: Job, settings: Mapping[str, bool]) -> dict[str, Any]:
    """A run of ours, read from its metrics."""
    from neva.train.loop import run

    out = job.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    run(job.recipe(**settings), job.model, [job.data], job.images, out)
    whole = time.perf_counter() - began
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "samples_per_second" in line]
    seconds = [line["samples"] / line["samples_per_second"] for line in lines]
    return {
        "seconds": seconds,
        "waits": [s * line["data_share"] for s, line in zip(seconds, lines, strict=True)],
        "samples": [line["samples"] for line in lines],
        "supervised": [line["supervised_tokens"] for line in lines],
        "losses": [line["loss"] for line in lines],
        "outside": whole - sum(seconds),
    }


def measure(job: Job, contender: str) -> dict[str, Any]:
    """Run one contender in this process."""
    if contender in OURS:
        found = run_ours(job, OURS[contender])
    else:
        from train_peers import run_peer

        found = run_peer(job, contender)
    found["memory"] = peak_memory()
    return found


def peak_memory() -> int:
    """The largest resident size of this program, in bytes.

    Linux' ru_maxrss is not that: it outlives exec, so that a contender that needs little shows what
    its parent needed to make the models. VmHWM begins anew.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured_peak(threads: int) -> float:
    """FLOP/s of this machine's matrix products."""
    import torch

    from neva.train.peak import find_peak

    torch.set_num_threads(threads or torch.get_num_threads())
    peak = find_peak("bf16")
    return peak.flops if peak else float("nan")


def figures(found: Mapping[str, Any], work: list[float], peak: float) -> dict[str, float]:
    """What the table shows of a contender; the first step is left out of everything but losses."""
    seconds = sum(found["seconds"][1:])
    return {
        "samples_per_second": sum(found["samples"][1:]) / seconds,
        "supervised_per_second": sum(found["supervised"][1:]) / seconds,
        "mfu": sum(work[1:]) / seconds / peak,
        "wait": sum(found["waits"][1:]) / seconds,
        "memory_gib": found["memory"] / 2**30,
        "first_loss": found["losses"][0],
        "last_loss": float(np.mean(found["losses"][-2:])),
        "outside_seconds": found["outside"],
    }


def table(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line for each contender, with its ratios to the fastest and to the smallest peer."""
    peers = [value for name, value in found.items() if name not in OURS]
    fastest = max((p["samples_per_second"] for p in peers), default=float("nan"))
    smallest = min((p["memory_gib"] for p in peers), default=float("nan"))
    return [
        f"{name:10} {f['samples_per_second']:9.2f} {f['samples_per_second'] / fastest:6.2f}x "
        f"{f['supervised_per_second']:12.1f} {100 * f['mfu']:5.1f}% {100 * f['wait']:5.1f}% "
        f"{f['memory_gib']:8.2f} {f['memory_gib'] / smallest:5.2f}x {f['first_loss']:7.3f} "
        f"{f['last_loss']:7.3f} {f['outside_seconds']:6.1f}s"
        for name, f in found.items()
    ]


def compare(job: Job, contenders: list[str], peak: float) -> dict[str, dict[str, float]]:
    """Every contender in a process of its own."""
    prepare(job)
    samples = targets(job)
    found: dict[str, dict[str, float]] = {}
    for contender in contenders:
        values = {**asdict(job), "work": str(job.work)}
        command = [sys.executable, __file__, "--measure", contender, "--job", json.dumps(values)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"{contender}: failed ({done.returncode}): {last}", flush=True)
            continue
        work = step_work(job, samples, live=not OURS.get(contender, {}).get("cache"))
        found[contender] = figures(json.loads(done.stdout.splitlines()[-1]), work, peak)
        print(f"{contender} done", file=sys.stderr, flush=True)
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: both of CLIP's")
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: both full ones")
    parser.add_argument("--steps", type=int, default=3, help="the first is not counted")
    parser.add_argument("--batch-size", type=int, help="default: 8 for ViT-B/32, 4 for ViT-L/14")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine gives")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--only", choices=CONTENDERS, action="append")
    parser.add_argument("--quick", action="store_true", help="two steps of two samples, small CLIP")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure every shape and stage, and print a table for each."""
    o = options()
    if o.measure:
        job = Job(**{**o.job, "work": Path(o.job["work"])})
        print("\n" + json.dumps(measure(job, o.measure)))
        return
    known = [c for c in CONTENDERS if c != "trl" or importlib.util.find_spec("trl")]
    peak, results = measured_peak(o.threads), []
    print(f"peak: {peak / 1e9:.0f} GFLOP/s in bfloat16 products, measured")
    for shape in o.shape or (["nano"] if o.quick else COMPARED):
        for stage in o.stage or STAGES[:2]:
            steps, size = (2, 2) if o.quick else (o.steps, o.batch_size or BATCH[shape])
            job = Job(shape, stage, steps, size, o.threads, o.work)
            found = compare(job, o.only or known, peak)
            print(f"\n{shape}, {stage}, {steps} steps of {size} samples\n{HEAD}")
            print("\n".join(table(found)), flush=True)
            results.append({**asdict(job), "work": str(job.work), "contenders": found})
            if o.json:
                o.json.write_text(json.dumps({"peak_flops": peak, "results": results}, indent=1))


if __name__ == "__main__":
    main()
