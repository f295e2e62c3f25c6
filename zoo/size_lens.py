"""Where sizes are lost: what a linear map reads of them off each layer of CLIP and off the tokens.

    python -m zoo.size_lens

Scenes of things of unequal size, as stage 2 shows them (`zoo.size_questions.scales`). A map is
fitted from each patch that shows a thing to the logarithm of how much of the picture that thing
takes, and asked of other scenes: the share of the variance that it explains, and of two things of
which one is 1.5 times as large how often their patches' means say which.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neva.images import from_pixels
from neva.model import Checkpoint
from neva.model.features import image_features
from neva.model.load import load_model
from neva.model.shapes import feature_layers
from neva.nano import default_checkpoint
from zoo.casting import Casting
from zoo.deck import Deck
from zoo.drawings import GRID
from zoo.revive import ridge
from zoo.scenes import Actor, Scene, compose_scene
from zoo.size_questions import scales

CLEAR = 1.5
COUNTS = (2, 2, 2, 3, 4)
"""Things in a scene."""
COVERED = 0.35
"""Share of a patch from which on it is said to show a thing."""
FITTED = 0.75
"""Share of the scenes that the maps are fitted on."""
BATCH = 100
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shown:
    """Squares ``(N, S, S, 3)`` uint8, and each scene's boxes as shares of its square."""

    squares: Tensor
    boxes: tuple[tuple[Box, ...], ...]

    @cached_property
    def owners(self) -> Tensor:
        """``(N, P)``: which of its scene's things each patch shows, or -1."""
        return torch.tensor([[owner(patch, boxes) for patch in patches()] for boxes in self.boxes])

    def lengths(self, scene: int) -> list[float]:
        """The longer side of each thing of a scene, as a share of its square's."""
        return [max(right - left, low - top) for left, top, right, low in self.boxes[scene]]

    @cached_property
    def octaves(self) -> Tensor:
        """``(N, P)``: the logarithm to base 2 of `lengths` of what each patch shows, 0 where that
        is nothing."""
        known = [torch.tensor([*self.lengths(n), 1.0]).log2() for n in range(len(self.boxes))]
        return torch.stack([one[own] for one, own in zip(known, self.owners, strict=True)])


@dataclass(frozen=True)
class Reading:
    """The map ``(D,)`` and ``bias`` from a patch to the octaves of what it shows."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def fitted(cls, patches: Tensor, octaves: Tensor) -> Reading:
        """By ridge regression on patches ``(N, D)`` that show a thing, and its octaves ``(N,)``."""
        fit = ridge(F.pad(patches, (0, 1), value=1.0), octaves[:, None])[0].float()
        return cls(fit[:-1], fit[-1])

    def of(self, patches: Tensor) -> Tensor:
        """What it reads of patches ``(..., D)``."""
        return patches @ self.weight + self.bias


def patches() -> Iterator[Box]:
    """The patches' boxes, row by row, as shares of the picture."""
    for row in range(GRID):
        for column in range(GRID):
            yield column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID


def owner(patch: Box, boxes: tuple[Box, ...]) -> int:
    """The box that covers most of a patch, or -1 where none covers enough."""
    shares = [covered(patch, box) for box in boxes]
    best = int(np.argmax(shares))
    return best if shares[best] > COVERED else -1


def covered(patch: Box, box: Box) -> float:
    """Which share of a patch a box covers."""
    across = min(patch[2], box[2]) - max(patch[0], box[0])
    along = min(patch[3], box[3]) - max(patch[1], box[1])
    return max(0.0, across) * max(0.0, along) * GRID * GRID


def squared(scene: Scene) -> tuple[Box, ...]:
    """The boxes of a scene when its picture is padded to a square, as shares of that."""
    side = max(scene.size)
    left, top = ((side - length) // 2 for length in scene.size)
    return tuple(
        ((o.box[0] + left) / side, (o.box[1] + top) / side,
         (o.box[2] + left) / side, (o.box[3] + top) / side) for o in scene.objects
    )  # fmt: skip


def shown(work: Path, count: int, checkpoint: Checkpoint, counts: Sequence[int] = COUNTS) -> Shown:
    """Scenes of so many easy things or plain shapes of unequal size, ``counts`` equally often."""
    casting, rng = Casting(Deck.open(work)), np.random.default_rng(5)
    squares, boxes = [], []
    for number in range(count):
        cast: list[Actor] = []
        source = casting.shape if number % 2 else casting.easy
        casting.add(cast, int(rng.choice(counts)), source, rng)
        picture, scene = compose_scene(cast, rng, scales(len(cast), rng))
        squares.append(checkpoint.pixels.square(from_pixels(np.asarray(picture))))
        boxes.append(squared(scene))
    return Shown(torch.from_numpy(np.stack(squares)), tuple(boxes))


@torch.no_grad()
def states(checkpoint: Checkpoint, squares: Tensor) -> tuple[list[Tensor], Tensor]:
    """Patches ``(N, P, Dv)`` behind each layer of CLIP that the projector needs, from 0 (the
    embeddings), and image tokens ``(N, P, D)``."""
    model = load_model(checkpoint, "cpu", torch.float32)
    read = feature_layers(checkpoint.config)
    count = max(read) + 1
    model.config.vision_feature_layer = list(range(count))
    parts = torch.split(squares, BATCH)
    features = torch.cat([image_features(model, part, checkpoint.pixels) for part in parts])
    layers = list(features.chunk(count, -1))
    tokens = model.model.multi_modal_projector(torch.cat([layers[n] for n in read], -1))
    return layers, tokens


def explained(patch: Tensor, scenes: Shown) -> tuple[float, float]:
    """(share of the variance, share of the pairs) that a linear map of patches gets right."""
    own, first = scenes.owners, round(FITTED * len(patch))
    truth, seen = scenes.octaves, own >= 0
    fit = Reading.fitted(patch[:first][seen[:first]], truth[:first][seen[:first]])
    read = fit.of(patch[first:])
    wrong = (read - truth[first:])[seen[first:]]
    variance = 1 - wrong.square().mean() / truth[first:][seen[first:]].var(correction=0)
    right = [
        one
        for n in range(first, len(own))
        for one in pairs(read[n - first], own[n], scenes.lengths(n))
    ]
    return float(variance), sum(right) / len(right)


def pairs(read: Tensor, own: Tensor, lengths: list[float]) -> Iterator[bool]:
    """Of each pair that differs clearly and has patches, whether the larger reads larger."""
    for one, other in permutations(range(len(lengths)), 2):
        known = bool((own == one).any()) and bool((own == other).any())
        if known and lengths[one] >= CLEAR * lengths[other]:
            yield bool(read[own == one].mean() > read[own == other].mean())


def main(argv: list[str] | None = None) -> int:
    """Print what each layer tells of sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--scenes", type=int, default=1600)
    o = parser.parse_args(argv)
    checkpoint = Checkpoint.open(default_checkpoint())
    scenes = shown(o.work, o.scenes, checkpoint)
    print("| read off | variance, % | which of two, % |\n|---|---|---|")
    layers, tokens = states(checkpoint, scenes.squares)
    named = {f"CLIP's layer {number}": patch for number, patch in enumerate(layers[1:], start=1)}
    for name, patch in {**named, "image tokens": tokens}.items():
        variance, right = explained(patch, scenes)
        print(f"| {name} | {100 * variance:.0f} | {100 * right:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
