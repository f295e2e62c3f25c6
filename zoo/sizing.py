"""Image tokens that tell how large a thing is: a second layer of CLIP for the projector.

    python -m zoo.sizing      # WORK/pretrain/final -> WORK/sized

CLIP's fourth layer knows how large a thing is that a patch shows, and the memory of names behind it
drowns that (`zoo.size_lens`). So the projector is given that layer too, beside its own: a list as
``vision_feature_layer``, as Hugging Face's LLaVA has it. Of what a linear map reads there, two of
the projector's hidden units say an octave as `STEP` of a word's length, towards words of large
things or away from them: gelu(x) - gelu(-x) is x. They are those two that told least; all else of
the projector stays, and so does CLIP.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from neva.errors import DataError, NevaError
from neva.model.arrays import as_tensor
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import check_free
from neva.model.keys import BODY, PROJECTOR
from neva.model.save import save_tensors
from neva.model.shapes import feature_layers
from zoo.size_lens import Reading, shown, states

LAYER = 4
"""Which of CLIP's eight layers knows sizes best (`zoo.size_lens`)."""
STEP = 0.5
"""How far a token leans for each doubling of a thing's length, in words' lengths; the place at a
picture's edge is told as far (`zoo.words`)."""
LARGE = (" larger", " bigger", " large", " huge", " giant")
SMALL = (" smaller", " tiny", " small", " little", " mini")
COUNTS = (1, 2, 3, 4)
"""Things in a scene that the map is fitted on, each as often."""
CLEARED = 16
"""So many of the directions in which tokens differ most do not tell sizes: names, places, counts.
"""
ONE, TWO = (f"{PROJECTOR}linear_{number}" for number in (1, 2))


def direction(embedding: Tensor, tokenizer: Tokenizer, tokens: Tensor) -> Tensor:
    """Towards `LARGE`, away from `SMALL`, and clear of what ``tokens`` ``(N, D)`` tell already: a
    unit vector ``(D,)``."""
    ends = [
        embedding[[tokenizer.encode(word, add_special_tokens=False).ids[0] for word in words]]
        for words in (LARGE, SMALL)
    ]
    apart = F.normalize(ends[0], dim=1).sum(0) - F.normalize(ends[1], dim=1).sum(0)
    told = torch.linalg.eigh(torch.cov(tokens.T)).eigenvectors[:, -CLEARED:]
    return F.normalize(apart - told @ (told.T @ apart), dim=0)


def enlarged(
    projector: Mapping[str, Tensor], reading: Reading, lean: Tensor, patches: Tensor
) -> dict[str, Tensor]:
    """The projector ``linear_1`` ``(H, Dv)``, ``linear_2`` ``(D, H)`` for both layers' features,
    `LAYER`'s first: ``linear_1`` is ``(H, 2 Dv)``. Tokens lean by ``lean`` ``(D,)`` for an octave;
    ``patches`` ``(N, Dv)`` show which hidden units tell least."""
    one, bias = projector[f"{ONE}.weight"].float(), projector[f"{ONE}.bias"].float()
    two, base = projector[f"{TWO}.weight"].float(), projector[f"{TWO}.bias"].float()
    on = F.gelu(patches @ one.T + bias)
    least = (on.std(0) * two.norm(dim=0)).argsort()[:2]
    base = base + two[:, least] @ on.mean(0)[least]
    wide, two, bias = F.pad(one, (one.shape[1], 0)), two.clone(), bias.clone()
    for unit, sign in zip(least.tolist(), (1.0, -1.0), strict=True):
        wide[unit] = F.pad(sign * reading.weight, (0, one.shape[1]))
        bias[unit] = sign * reading.bias
        two[:, unit] = sign * lean
    parts = {f"{ONE}.weight": wide, f"{ONE}.bias": bias, f"{TWO}.weight": two, f"{TWO}.bias": base}
    return {name: part.to(torch.bfloat16) for name, part in parts.items()}


def build(work: Path, start: Path, out: Path, count: int) -> None:
    """Write ``start`` with a projector of both layers to ``out``."""
    check_free(out)
    checkpoint = Checkpoint.open(start)
    last, *more = feature_layers(checkpoint.config)
    if more:
        raise DataError(f"{start}: its projector reads several layers already ({[last, *more]})")
    scenes = shown(work, count, checkpoint, COUNTS)
    layers, told = states(checkpoint, scenes.squares)
    seen = scenes.owners >= 0
    octaves = scenes.octaves[seen]
    tensors = {name: as_tensor(array) for name, array in read_tensors(checkpoint).items()}
    words = tensors[f"{BODY}embed_tokens.weight"].float()
    length = (words - words.mean(0)).norm(dim=1).mean()
    way = direction(words, checkpoint.tokenizer, told.flatten(0, 1))
    tensors |= enlarged(
        {name: tensors[name] for name in tensors if name.startswith(PROJECTOR)},
        Reading.fitted(layers[LAYER][seen], octaves - octaves.mean()),
        STEP * length * way,
        layers[last].flatten(0, 1),
    )
    config = {**checkpoint.config, "vision_feature_layer": [LAYER, last]}
    history = replace(checkpoint.provenance, parents=(checkpoint.sha256,))
    save_tensors(tensors, replace(checkpoint, config=config), out, history, checkpoint.dtype)


def main(argv: list[str] | None = None) -> int:
    """Let the projector of WORK/pretrain/final tell sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--scenes", type=int, default=2400, help="that the map is fitted on")
    o = parser.parse_args(argv)
    out = o.work / "sized"
    build(o.work, o.work / "pretrain" / "final", out, o.scenes)
    print(f"{out}: its projector reads two layers")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NevaError as error:
        sys.exit(f"zoo.sizing: {error}")
