"""Sizes are told by two hidden units of the projector; all else it says stays."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from zoo.size_lens import Reading, Shown
from zoo.sizing import ONE, TWO, enlarged

WIDTH, HIDDEN, OUT = 16, 32, 24


def told(projector: dict[str, Tensor], features: Tensor) -> Tensor:
    """The projector's tokens, in float32."""
    one, two = (
        [projector[f"{name}.{kind}"].float() for kind in ("weight", "bias")] for name in (ONE, TWO)
    )
    return F.linear(F.gelu(F.linear(features, *one)), *two)


def projector() -> dict[str, Tensor]:
    """A projector of which two hidden units say next to nothing."""
    torch.manual_seed(0)
    two = torch.randn(OUT, HIDDEN)
    two[:, [5, 9]] *= 0.001
    parts = {f"{ONE}.weight": torch.randn(HIDDEN, WIDTH), f"{ONE}.bias": torch.randn(HIDDEN),
             f"{TWO}.weight": two, f"{TWO}.bias": torch.randn(OUT)}  # fmt: skip
    return {name: part.to(torch.bfloat16) for name, part in parts.items()}


def test_tokens_lean_by_the_octave_and_say_what_they_said() -> None:
    old, near, own = projector(), torch.randn(200, WIDTH), torch.randn(200, WIDTH)
    reading = Reading(0.2 * torch.randn(WIDTH), torch.tensor(0.5))
    lean = F.normalize(torch.randn(OUT), dim=0)
    new = enlarged(old, reading, lean, own)
    assert new[f"{ONE}.weight"].shape == (HIDDEN, 2 * WIDTH)
    more = told(new, torch.cat([near, own], 1)) - told(old, own)
    octaves = reading.of(near)
    assert (more - octaves[:, None] * lean).abs().max() < 0.05  # bfloat16's rounding
    assert torch.corrcoef(torch.stack([more @ lean, octaves]))[0, 1] > 0.999
    units = [n for n in range(HIDDEN) if not new[f"{ONE}.weight"][n, WIDTH:].any()]
    assert units == [5, 9]


def test_the_reading_is_of_octaves_and_right_in_the_mean() -> None:
    chance = torch.Generator().manual_seed(1)
    sides = 0.1 + 0.4 * torch.rand(120, generator=chance)
    boxes = tuple(((0.0, 0.0, float(side), float(side)),) for side in sides)
    scenes = Shown(torch.zeros(120, 1), boxes)
    octaves, seen = scenes.octaves, scenes.owners >= 0
    patches = torch.randn(120, 64, 8, generator=chance)
    patches[..., 3] += 8 * octaves
    read = Reading.fitted(patches[seen], octaves[seen]).of(patches[seen])
    assert torch.corrcoef(torch.stack([read, octaves[seen]]))[0, 1] > 0.8
    assert abs(float((read - octaves[seen]).mean())) < 0.05
