"""Arithmetics of the CPU plugin for an engine's language model, in one process and in turn.

    python benchmarks/arithmetic.py CHECKPOINT              # int8 weights; two minutes
    python benchmarks/arithmetic.py CHECKPOINT --weights int4

Milliseconds, medians: one step for prompts of so many rows (random embeddings), then one token for
each of so many requests at once. Raw openvino-genai, as `serve_raw.py`.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai as genai
from openvino import Tensor

from neva.engine.graphs import export
from neva.engine.precision import ACCURATE, BFLOAT16, INT8
from neva.model.checkpoint import Checkpoint
from neva.model.shapes import text_config

WAYS: Mapping[str, Mapping[str, str]] = {
    "ACCURACY": ACCURATE,
    "the plugin's choice": {},
    "bfloat16": BFLOAT16,
    "int8, a scale for 32": {**INT8, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"},
    "int8, a scale for 64": INT8,
}
PROMPTS, CROWDS = (24, 80, 250), (1, 8, 32)


class Steps:
    """A pipeline, and how long its steps take."""

    def __init__(self, folder: Path, properties: Mapping[str, str], width: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 400
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(folder), scheduler, "CPU", dict(properties)
        )
        self._random, self._width, self._keys = np.random.default_rng(0), width, itertools.count()

    def prompt(self, rows: int) -> float:
        """Milliseconds of the first step for a prompt of (1, rows, width)."""
        return self._steps(rows, 1, 2)[0]

    def token(self, crowd: int) -> float:
        """Milliseconds for a token of each of `crowd` requests."""
        return statistics.median(self._steps(30, crowd, 24)[crowd // 8 + 1 :])

    def _steps(self, rows: int, crowd: int, tokens: int) -> list[float]:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos = tokens, True
        shape = (crowd, 1, rows, self._width)
        embeds = (self._random.standard_normal(shape) * 0.1).astype(np.float32)
        live = [self._pipeline.add_request(next(self._keys), Tensor(e), config) for e in embeds]
        took = []
        while self._pipeline.has_non_finished_requests():
            begun = time.perf_counter()
            self._pipeline.step()
            took.append((time.perf_counter() - begun) * 1e3)
        assert all(len(one.read_all()[0].generated_ids) == tokens for one in live)
        return took


def main() -> None:
    """Print a table."""
    given = _arguments()
    checkpoint = Checkpoint.open(given.checkpoint)
    folder = export(checkpoint, given.weights).folder
    width = int(text_config(checkpoint.config)["hidden_size"])
    steps = {name: Steps(folder, ways, width) for name, ways in WAYS.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(given.rounds + 1):
        for name, one in steps.items():
            for label, took in _round(one):
                if turn:  # the first is the kernels' warming
                    times.setdefault((name, label), []).append(took)
    labels = [label for name, label in times if name == next(iter(WAYS))]
    print(f"| {given.weights} weights | {' | '.join(labels)} |\n|---|{'---|' * len(labels)}")
    for name in WAYS:
        row = (f"{statistics.median(times[name, one]):.1f}" for one in labels)
        print(f"| {name} | {' | '.join(row)} |")


def _round(one: Steps) -> Iterator[tuple[str, float]]:
    for rows in PROMPTS:
        yield f"prompt of {rows}", one.prompt(rows)
    for crowd in CROWDS:
        yield f"token, {crowd} at once", one.token(crowd)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--weights", choices=("exact", "int8", "int4"), default="int8")
    parser.add_argument("--rounds", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
