"""Go on with the committed CLIP where its training state is gone.

    python -m zoo.revive
    python -m zoo.clip_train --scenes 48 --anew --minutes 40

The package keeps the vision tower (`neva.nano`), `zoo/clip` the text tower and the tokenizer; what
training adds to them, heads and optimisers, is kept nowhere. The three maps into the names' space
are fitted by ridge regression to what the teacher says of augmented drawings, in a minute, so that
the first steps do not unlearn the tower; the rest starts anew.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from neva.model.arrays import as_tensor
from neva.nano.assemble import read_parts
from neva.nano.manifest import WEIGHTS
from zoo.clip_data import Mix
from zoo.clip_model import Student
from zoo.clip_train import ClipRecipe, Run
from zoo.deepen import MORE, PREFIX

KEPT = Path(__file__).parent / "clip"
SHRINK = 1e-3
"""Ridge penalty, as a share of the mean variance."""


def shallow(tower: dict[str, Tensor], width: int, more: int = MORE) -> dict[str, Tensor]:
    """A deepened vision tower's tensors without what `zoo.deepen` added: layers and units."""
    last = max(int(k.removeprefix(PREFIX).split(".")[0]) for k in tower if k.startswith(PREFIX))
    state = {}
    for key, tensor in tower.items():
        if not key.startswith(PREFIX):
            state[key] = tensor
            continue
        number, _, rest = key.removeprefix(PREFIX).partition(".")
        if last - more <= int(number) < last:
            continue
        if rest.startswith("mlp.fc1."):
            tensor = tensor[: 4 * width]
        elif rest == "mlp.fc2.weight":
            tensor = tensor[:, : 4 * width]
        state[f"{PREFIX}{int(number) - more * (int(number) == last)}.{rest}"] = tensor.contiguous()
    return state


def ridge(inputs: Tensor, outputs: Tensor, shrink: float = SHRINK) -> Tensor:
    """``(N, D)`` and ``(N, E)`` -> the map ``(E, D)`` of least squares, in float64."""
    x, y = inputs.double(), outputs.double()
    gram = x.T @ x
    gram += shrink * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found: Tensor = torch.linalg.solve(gram, x.T @ y)
    return found.T.float()


@torch.no_grad()
def fit_maps(run: Run, steps: int) -> None:
    """Fit the maps of image, patches and text into the names' space on batches of drawings."""
    student, rows = run.student.eval(), []
    for step in track(range(steps), "what the tower says of drawings"):
        batch, _ = run.prepare(step)
        art = torch.tensor([i.store == "art" for i in batch.items])
        aims = run.targets.aims([i for i in batch.items if i.store == "art"])
        out = student.clip.vision_model(pixel_values=batch.pixels[art], output_hidden_states=True)
        patches = student.patch_norm(out.hidden_states[-2][:, 1:].mean(1))
        ids, mask = (t[art] for t in batch.text)
        read = student.clip.text_model(input_ids=ids, attention_mask=mask).pooler_output
        rows.append((out.pooler_output, patches, read, aims))
    pooled, patches, read, aims = (torch.cat(part) for part in zip(*rows, strict=True))
    student.clip.visual_projection.weight.copy_(ridge(pooled, aims))
    student.clip.text_projection.weight.copy_(ridge(read, aims))
    ones = patches.new_ones(len(patches), 1)
    whole = ridge(torch.cat([patches, ones], 1), aims)
    student.patch_names.weight.copy_(whole[:, :-1])
    student.patch_names.bias.copy_(whole[:, -1])
    student.train()


PLACES = "vision_model.embeddings.position_embedding.weight"


def stretched(table: Tensor, places: int) -> Tensor:
    """Position embeddings ``(1 + g * g, Dv)``, the class token's first, for a finer or coarser grid
    of ``places - 1`` patches, by bicubic interpolation (as ViT, Dosovitskiy et al. 2021)."""
    if len(table) == places:
        return table
    old, new = (round((count - 1) ** 0.5) for count in (len(table), places))
    grid = table[1:].T.reshape(1, -1, old, old)
    wide = F.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], wide[0].flatten(1).T])


def load(student: Student, tower: dict[str, Tensor], kept: dict[str, Tensor]) -> None:
    """The vision tower of ``tower``; the text tower and the scale of contrast of ``kept``."""
    width = student.clip.config.vision_config.hidden_size
    state = {k: v for k, v in kept.items() if k.startswith("text_") or k == "logit_scale"}
    seeing = shallow(tower, width)
    seeing[PLACES] = stretched(seeing[PLACES], len(student.clip.get_parameter(PLACES)))
    missing, unexpected = student.clip.load_state_dict(seeing | state, strict=False)
    absent = [k for k in missing if not k.endswith(("position_ids", "visual_projection.weight"))]
    if absent or unexpected:
        raise ValueError(f"not a tower of this student: {(absent + unexpected)[:3]}")


def build(work: Path, steps: int = 80) -> None:
    """Write ``WORK/clip/resume.pt``, with which ``zoo.clip_train --anew`` goes on."""
    folder = work / "clip"
    if (folder / "resume.pt").is_file():
        raise FileExistsError(f"{folder / 'resume.pt'} is there already: go on with it, or move it")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(KEPT / "tokenizer.json", folder)
    parts, prefix = read_parts(WEIGHTS), "vision_tower."
    tower = {
        name.removeprefix(prefix): as_tensor(parts[name]).float()
        for name in parts
        if name.startswith(prefix)
    }
    kept = {k: v.float() for k, v in load_file(KEPT / "model.safetensors").items()}
    run = Run(ClipRecipe(work, mix=Mix(0, 0, 48, 12, 8, 4)), resume=False)
    load(run.student, tower, kept)
    fit_maps(run, steps)
    run.average = {k: v.detach().clone() for k, v in run.student.state_dict().items()}
    run.feeder.shutdown()
    run.checkpoint()


def main(argv: list[str] | None = None) -> int:
    """Make a training state from the committed CLIP."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--steps", type=int, default=80, help="batches that the maps are fitted on")
    o = parser.parse_args(argv)
    build(o.work, o.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
