"""Train the student: contrast, names, prototypes, the teacher's maps, shapes and colours.

Recipe of Part 2 of the facts with additions: shape pictures in every batch, wide placement for
30% of the art, and names, shapes and colours also asked of the patches of layer -2. With scenes
(`--scenes`) each patch of a scene is asked for its own object (`zoo.mosaics`). The schedule
follows the wall clock, so a run ends when it was told to; `--resume` goes on from the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from zoo import vqa
from zoo.augment import compose, load, normalise
from zoo.clip_data import Mix, Sampler, corpus
from zoo.clip_eval import Judge
from zoo.clip_losses import Batch, Targets, losses
from zoo.clip_model import (
    HEAD,
    ClipShape,
    NameHead,
    Student,
    config_of,
    encode,
    save,
    train_tokenizer,
)
from zoo.mosaic_losses import SceneHeads, scene_losses
from zoo.mosaics import Director, Mosaics, compose_mosaics
from zoo.muon import Muon
from zoo.share import Courtesy, quick


@dataclass(frozen=True)
class ClipRecipe:
    """What a run is told."""

    work: Path
    minutes: float = 60.0
    seed: int = 0
    threads: int = 2
    muon_rate: float = 2e-3
    adam_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 50
    ema: float = 0.997
    evaluate_minutes: float = 8.0
    save_minutes: float = 4.0
    final: str = "final"
    scenes: int = 0
    anew: bool = False
    """Start another cosine where the checkpoint stopped, instead of ending the one it was in."""
    second_peak: float = 0.5
    mix: Mix = field(default_factory=Mix)
    shape: ClipShape = field(default_factory=ClipShape)


class Run:
    """One training run and its state on disk."""

    def __init__(self, recipe: ClipRecipe, resume: bool) -> None:
        self.recipe = recipe
        self.folder = recipe.work / "clip"
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.sampler = Sampler(recipe.work, recipe.seed)
        self.vqa_pixels = vqa.pixels(self.sampler.vqa)
        self.tokenizer = self._tokenizer()
        self.targets = Targets(recipe.work, self.sampler)
        config = config_of(recipe.shape, self.tokenizer)
        self.student = Student(config, self.targets.prototypes)
        self.see = torch.compile(self.student.see)  # a step in .81 s instead of .95
        self.heads = SceneHeads(recipe.shape.width)
        self.director = Director(self.sampler)
        self.average = {k: v.detach().clone() for k, v in self.student.state_dict().items()}
        self.optimisers = self._optimisers()
        self.step, self.samples, self.spent = 0, 0, 0.0
        self.first, self.since, self.peak = 0, 0.0, 1.0
        if resume and (self.folder / "resume.pt").is_file():
            self._load()
        # one thread beside the learner's: two pools of threads would wait for each other
        self.feeder = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.coming = self.feeder.submit(self.prepare, self.step)

    def _tokenizer(self) -> Tokenizer:
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            train_tokenizer(corpus(self.sampler), self.recipe.shape.vocabulary).save(str(path))
        return Tokenizer.from_file(str(path))

    def _optimisers(self) -> tuple[Muon, torch.optim.AdamW, torch.optim.AdamW]:
        matrices: list[Tensor] = []
        decayed: list[Tensor] = []
        rest: list[Tensor] = []
        for name, p in self.student.named_parameters():
            inside = ".encoder.layers." in name
            if inside and p.ndim == 2:
                matrices.append(p)
            else:
                (decayed if p.ndim >= 2 and "embedding" not in name else rest).append(p)
        r = self.recipe
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": r.weight_decay},
            {"params": rest},
        ]
        adam = torch.optim.AdamW(groups, r.adam_rate, (0.9, 0.98), weight_decay=0.0, fused=True)
        heads = torch.optim.AdamW(self.heads.parameters(), r.adam_rate, (0.9, 0.98))
        return Muon(matrices, r.muon_rate, weight_decay=r.weight_decay), adam, heads

    def _load(self) -> None:
        state = torch.load(self.folder / "resume.pt", weights_only=True)
        rows = rows_of(list(self.targets.number), state["concepts"])
        for part in ("student", "average"):
            state[part]["names"] = carried(rows, state[part]["names"], self.targets.prototypes)
        carry_moments(rows, self.student.names, self.optimisers[1], state["optimisers"][1])
        self.student.load_state_dict(state["student"])
        self.average = state["average"]
        if "schedule" in state:
            self.heads.load_state_dict(state["heads"], strict=False)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=False):
            if _fits(optimiser, saved):  # runs without scenes saved no third one
                optimiser.load_state_dict(saved)
        self.step, self.spent = state["step"], state["spent"]
        self.samples = state.get("samples", 128 * self.step)
        if "schedule" in state and not self.recipe.anew:
            self.first, self.since, self.peak = state["schedule"]
        elif self.recipe.scenes:
            self.first, self.since, self.peak = self.step, self.spent, self.recipe.second_peak

    def checkpoint(self) -> None:
        """Write the resumable state, then swap it in."""
        state = {
            "student": self.student.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average,
            "concepts": list(self.targets.number),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "samples": self.samples,
            "schedule": (self.first, self.since, self.peak),
            "spent": self.spent,
        }
        torch.save(state, self.folder / "resume.part")
        (self.folder / "resume.part").replace(self.folder / "resume.pt")

    @torch.no_grad()
    def prepare(self, step: int) -> tuple[Batch, Mosaics | None]:
        """The batch of one step and its scenes; runs ahead in a thread of its own."""
        items = self.sampler.batch(step, self.recipe.mix)
        rng = np.random.default_rng([self.recipe.seed + 1, step])
        views = compose(items, load(items, self.sampler, self.vqa_pixels), rng)
        text = encode(self.tokenizer, [i.caption for i in items])
        scenes = self.recipe.scenes
        mosaics = compose_mosaics(self.director, scenes, rng) if scenes else None
        return Batch(items, normalise(views.images), views.affine, text), mosaics

    def losses(self, batch: Batch, mosaics: Mosaics | None) -> dict[str, Tensor]:
        """All weighted losses; singles and scenes pass the tower together."""
        pixels = [batch.pixels] if mosaics is None else [batch.pixels, normalise(mosaics.pixels)]
        with quick():
            images, patches = self.see(torch.cat(pixels))
        count = len(batch.items)
        parts = losses(self.student, self.targets, batch, images[:count], patches[:count])
        if mosaics is not None:
            parts |= scene_losses(self.student, self.heads, self.targets, mosaics, patches[count:])
        return parts

    def advance(self) -> dict[str, float]:
        """One step: sample, see, learn, average."""
        batch, mosaics = self.coming.result()
        self.coming = self.feeder.submit(self.prepare, self.step + 1)
        parts = self.losses(batch, mosaics)
        loss = torch.stack(list(parts.values())).sum()
        r = self.recipe
        for optimiser, base in zip(
            self.optimisers, (r.muon_rate, r.adam_rate, r.adam_rate), strict=True
        ):
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = base * self.rate()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self.samples += len(batch.items) + (self.recipe.scenes if mosaics else 0)
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        state = self.student.state_dict()
        floats = [k for k, v in state.items() if v.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[k] for k in floats], [state[k] for k in floats], 1 - decay
        )
        return {"loss": loss.item()} | {k: v.item() for k, v in parts.items()}

    def rate(self) -> float:
        """Warm-up by steps, then cosine to 1% over the wall-clock budget.

        A run that goes on with scenes, or anew, starts another cosine of lower peak: it has more to
        learn than the tail of the one before allows.
        """
        whole = self.recipe.minutes * 60 - self.since
        done = min(1.0, (self.spent - self.since) / whole)
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        steps = self.step + 1 - self.first
        return self.peak * min(1.0, steps / self.recipe.warmup) * cosine

    def averaged(self) -> Student:
        """A student with the averaged weights."""
        student = Student(config_of(self.recipe.shape, self.tokenizer), self.targets.prototypes)
        student.load_state_dict(self.average)
        return student

    def log(self, row: dict[str, float]) -> None:
        """Append one line to the log and show it."""
        row = {"step": self.step, "samples": self.samples, "spent": round(self.spent), **row}
        line = json.dumps({k: round(v, 4) for k, v in row.items()})
        with (self.folder / "log.jsonl").open("a") as out:
            out.write(line + "\n")
        print(line, flush=True)

    def train(self) -> None:
        """Run until the budget is spent, then save the averaged CLIP."""
        judge = Judge(self.recipe.work, self.tokenizer)
        budget = self.recipe.minutes * 60
        start = time.monotonic() - self.spent
        judged = saved = logged = self.spent
        courtesy = Courtesy(self.recipe.threads)
        while self.spent < budget:
            if self.step % 10 == 0:
                courtesy.look()
            figures = self.advance()
            self.spent = time.monotonic() - start
            if self.step == 5 or self.spent - logged > 30:
                self.log(figures | {"rate": self.rate(), "threads": courtesy.threads})
                logged = self.spent
            if self.spent - judged > self.recipe.evaluate_minutes * 60:
                self.log(judge(self.averaged()))
                judged = self.spent = time.monotonic() - start
            if self.spent - saved > self.recipe.save_minutes * 60:
                self.checkpoint()
                saved = self.spent
        self.feeder.shutdown()
        self.checkpoint()
        final = self.averaged()
        self.log({"final": 1.0} | judge(final))
        folder = self.folder / self.recipe.final
        names = NameHead(tuple(self.targets.number), F.normalize(final.names, dim=-1),
                         final.patch_norm, final.patch_names)  # fmt: skip
        save(final.clip, self.tokenizer, folder)
        names.write(folder / HEAD)


def rows_of(concepts: list[str], before: list[str]) -> Tensor:
    """Of each concept the row that it had ``before``, or -1: ``(K,)``."""
    place = {concept: row for row, concept in enumerate(before)}
    return torch.tensor([place.get(concept, -1) for concept in concepts])


def carried(rows: Tensor, before: Tensor, fresh: Tensor) -> Tensor:
    """The names' vectors of a checkpoint, `rows_of` them; new ones are ``fresh``: ``(K, E)``."""
    return torch.where((rows >= 0)[:, None], before[rows.clamp(min=0)], fresh)


def carry_moments(
    rows: Tensor, names: Tensor, optimiser: torch.optim.Optimizer, saved: dict[str, Any]
) -> None:
    """The same for what an optimiser remembers of the names; of new ones nothing. In place."""
    order = [id(p) for group in optimiser.param_groups for p in group["params"]]
    held = saved["state"].get(order.index(id(names)), {})
    for moment in ("exp_avg", "exp_avg_sq"):
        if moment in held:
            held[moment] = carried(rows, held[moment], torch.zeros_like(names))


def _fits(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> bool:
    """Whether a saved state has as many tensors; that of older heads begins anew."""
    mine, theirs = optimiser.param_groups, saved["param_groups"]
    return [len(g["params"]) for g in mine] == [len(g["params"]) for g in theirs]


def main(argv: list[str] | None = None) -> int:
    """Train CLIP for a wall-clock budget."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=0, help="scenes in each batch")
    parser.add_argument("--final", default="final", help="folder of the result in WORK/clip")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--anew", action="store_true", help="resume with another cosine")
    parser.add_argument(
        "--peak", type=float, default=0.5, help="of the second cosine, to the first"
    )
    options = parser.parse_args(argv)
    mix = Mix(3, 5, 48, 4, 4, 8) if options.scenes else Mix()
    recipe = ClipRecipe(
        options.work,
        options.minutes,
        threads=options.threads,
        final=options.final,
        scenes=options.scenes,
        anew=options.anew,
        second_peak=options.peak,
        mix=mix,
    )
    Run(recipe, options.resume or options.anew).train()
    return 0


if __name__ == "__main__":
    sys.exit(main())
