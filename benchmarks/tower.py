"""What a CLIP's graph costs with its own weights and with int8 ones, and a language model's load.

    python benchmarks/tower.py ~/.cache/neva-bench/models/b32      # a minute

Each tower in a process of its own: compiled, seen its first picture, the next ones' median, memory
(Linux' VmRSS), and how far what it says is from the exact tower's in float32. Then the language
model's graph read, made paged and compiled, as openvino-genai does.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import openvino as ov
from openvino._offline_transformations import paged_attention_transformation

from neva.engine.graphs import Export, export
from neva.model import Checkpoint

WAYS = (("exact", "f32"), ("exact", "bf16"), ("int8", "bf16"))
REPEATS = 12


def resident() -> int:
    """This process's memory in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 // 10**6


def seen(graph: Path, arithmetic: str, out: Path) -> dict[str, float]:
    """One tower's figures; what it says of a picture of noise goes to ``out``."""
    before, started = resident(), perf_counter()
    tower = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": arithmetic})
    shape = [1, *(size.get_length() for size in list(tower.inputs[0].partial_shape)[1:])]
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save(out, tower(pixels)[0])
    first, times = perf_counter() - started, []
    for _ in range(REPEATS):
        start = perf_counter()
        tower(pixels)
        times.append(perf_counter() - start)
    return {
        "to its first picture, s": round(first, 2),
        "a picture, ms": round(1e3 * float(np.median(times)), 1),
        "memory, MB": resident() - before,
    }


def loaded(graph: Path) -> float:
    """Seconds to read, page and compile a language model; the median of five."""
    times = []
    for _ in range(5):
        start = perf_counter()
        core = ov.Core()
        model = core.read_model(graph)
        paged_attention_transformation(model)
        core.compile_model(model, "CPU", {})
        times.append(perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a graph, an arithmetic, a file
    o = parser.parse_args()
    if o.one:
        print(json.dumps(seen(Path(o.one[0]), o.one[1], Path(o.one[2]))))
        return
    checkpoint = Checkpoint.open(o.checkpoint)
    made: dict[str, Export] = {w: export(checkpoint, w) for w in ("exact", "int8")}  # type: ignore[arg-type]
    said: list[np.ndarray] = []
    for weights, arithmetic in WAYS:
        out = made[weights].folder / "said.npy"
        command = [sys.executable, __file__, str(o.checkpoint), "--one"]
        command += [str(made[weights].vision), arithmetic, str(out)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        said.append(np.load(out))
        out.unlink()
        off = np.linalg.norm(said[-1] - said[0]) / np.linalg.norm(said[0])
        print(
            f"tower {weights}, {arithmetic}: {found.strip()}, off by {100 * off:.2f} %", flush=True
        )
    print(f"language model int8: loaded in {loaded(made['int8'].language):.2f} s")


if __name__ == "__main__":
    main()
