"""Cheap judges of the student while it learns: OpenMoji's dev half and a probe of its patches.

python -m zoo.clip_eval                 # what the head of a finished CLIP names of that half
python -m zoo.clip_eval --stamps        # and of the stamps: what stage 2 could say at most
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPModel

from neva.evaluate import TASKS, read
from neva.images import from_pixels, read_image
from neva.model import Checkpoint
from neva.nano.assemble import default_checkpoint
from zoo import vqa
from zoo.augment import normalise
from zoo.bars import with_own_border
from zoo.clip_model import HEAD, NameHead, Student, encode
from zoo.drawings import Gallery, openmoji_half
from zoo.judged import data_of
from zoo.share import quick
from zoo.teacher import on_white


class Judge:
    """Holds the evaluation pixels; `__call__` gives the figures of one student."""

    def __init__(self, work: Path, tokenizer: Tokenizer, half: str = "dev") -> None:
        gallery = Gallery.open(work / "openmoji")
        rows = [i for i, d in enumerate(gallery.drawings) if openmoji_half(d.codepoint) == half]
        self.images = normalise(on_white(gallery.pixels[rows]))
        self.answers = [gallery.drawings[i].concept for i in rows]
        self.flags = np.array([gallery.drawings[i].group == "flags" for i in rows])
        self.names = sorted({d.concept for d in gallery.drawings})
        self.tokenizer = tokenizer
        known = [i for i in vqa.train_images() if i.shape and i.colour]
        fit = [i for i in known if i.number < 4000 - vqa.HELD_OUT][:1500]
        held = [i for i in known if i.number >= 4000 - vqa.HELD_OUT]
        self.probe_images = [self._vqa(fit), self._vqa(held)]
        self.probe_truth = [
            (_codes([i.shape for i in s], vqa.SHAPES), _codes([i.colour for i in s], vqa.COLOURS))
            for s in (fit, held)
        ]

    @staticmethod
    def _vqa(images: list[vqa.VqaImage]) -> Tensor:
        raw = torch.from_numpy(vqa.pixels(images)).permute(0, 3, 1, 2).float() / 255
        return normalise(raw)

    @torch.no_grad()
    def __call__(self, student: Student) -> dict[str, float]:
        """Image-to-text R@1 and R@5 against all unique OpenMoji names; probe accuracies."""
        student.eval()
        seen = torch.cat([_see(student, part)[0] for part in torch.split(self.images, 128)])
        texts = []
        for start in range(0, len(self.names), 256):
            ids, mask = encode(self.tokenizer, self.names[start : start + 256])
            texts.append(student.read(ids, mask))
        order = (seen @ torch.cat(texts).T).topk(5).indices.numpy()
        place = {name: i for i, name in enumerate(self.names)}
        hits = order == np.array([place[a] for a in self.answers])[:, None]
        figures = {"r1": float(hits[:, 0].mean()), "r5": float(hits.any(1).mean())}
        figures["r1_noflags"] = float(hits[~self.flags, 0].mean())
        figures |= self._probe(student)
        student.train()
        return {k: round(v, 4) for k, v in figures.items()}

    def _probe(self, student: Student) -> dict[str, float]:
        fit, held = (
            torch.cat([_pool(_see(student, part)[1]) for part in torch.split(images, 128)])
            for images in self.probe_images
        )
        figures = {}
        for index, task in enumerate(("shape", "colour")):
            weights = _ridge(fit, self.probe_truth[0][index])
            guess = (_with_one(held) @ weights).argmax(1)
            truth = self.probe_truth[1][index]
            figures[f"probe_{task}"] = float((guess == truth).float().mean())
        return figures


def _codes(values: list[str], choices: tuple[str, ...]) -> Tensor:
    return torch.tensor([choices.index(v) for v in values])


def _see(student: Student, pixels: Tensor) -> tuple[Tensor, Tensor]:
    with quick():
        embedding, patches = student.see(pixels)
    return embedding.float(), patches.float()


def _pool(patches: Tensor) -> Tensor:
    """``(B, 64, 192)`` -> mean and max ``(B, 384)``."""
    return torch.cat([patches.mean(1), patches.amax(1)], 1)


def _with_one(features: Tensor) -> Tensor:
    return F.pad(features, (0, 1), value=1.0)


def _ridge(features: Tensor, truth: Tensor, strength: float = 1.0) -> Tensor:
    """Least squares on one-hot targets with a small ridge."""
    x = _with_one(features).double()
    gram = x.T @ x + strength * torch.eye(x.shape[1], dtype=torch.double)
    weights: Tensor = torch.linalg.solve(gram, x.T @ F.one_hot(truth).double()).float()
    return weights


class Naming:
    """What a finished CLIP's own head calls pictures, by the patches of layer -2."""

    def __init__(self, folder: Path) -> None:
        self.head = NameHead.read(folder / HEAD)
        self.clip = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> list[str]:
        """``(N, 3, 128, 128)`` in 0..1 -> the nearest name of each."""
        found = []
        for part in torch.split(normalise(pixels), 128):
            seen = self.clip.vision_model(pixel_values=part, output_hidden_states=True)
            patches = seen.hidden_states[-2][:, 1:].mean(1)
            found += [self.head.names[int(n)] for n in self.head.cosines(patches).argmax(-1)]
        return found


def named(folder: Path, work: Path, half: str = "dev") -> dict[str, float]:
    """How many of OpenMoji's drawings the head names exactly."""
    gallery = Gallery.open(work / "openmoji")
    rows = [i for i, d in enumerate(gallery.drawings) if openmoji_half(d.codepoint) == half]
    found = Naming(folder)(on_white(gallery.pixels[np.array(rows)]))
    drawn = [gallery.drawings[i] for i in rows]
    right = np.array([name == d.concept for name, d in zip(found, drawn, strict=True)])
    flags = np.array([d.group == "flags" for d in drawn])
    groups = {"all": right, "flags": right[flags], "others": right[~flags]}
    return {title: round(float(some.mean()), 4) for title, some in groups.items()}


def named_stamps(folder: Path, packages: Path) -> dict[str, dict[str, float]]:
    """How many of Tux Paint's stamps the head names, by the judge of `neva eval stamps`, with the
    checkpoint's bars beside what is no square and with bars of its border's own colour."""
    task = TASKS["stamps"]
    items = read(task, data_of("stamps", packages))
    recipe, naming = Checkpoint.open(default_checkpoint()).pixels, Naming(folder)
    pictures = [read_image(item.image) for item in items if item.image]
    kinds = np.array([item.kind for item in items])
    found = {}
    for bars in ("mean colour", "own border"):
        if bars == "own border":
            whole = (with_own_border(Image.fromarray(one.array)) for one in pictures)
            pictures = [from_pixels(np.array(one)) for one in whole]
        squares = np.stack([recipe.square(one) for one in pictures])
        names = naming(torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255)
        right = np.array([task.judge(i, name)[1] for i, name in zip(items, names, strict=True)])
        groups = {"all": right} | {str(kind): right[kinds == kind] for kind in np.unique(kinds)}
        found[bars] = {title: round(float(some.mean()), 4) for title, some in groups.items()}
    return found


def main(argv: list[str] | None = None) -> int:
    """Print what CLIP's head names of OpenMoji's dev half, or of the stamps."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--clip", type=Path, help="default WORK/clip/final")
    parser.add_argument("--stamps", action="store_true", help="Tux Paint's stamps instead")
    o = parser.parse_args(argv)
    clip = o.clip or o.work / "clip" / "final"
    print(named_stamps(clip, o.work / "packages") if o.stamps else named(clip, o.work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
