"""Where names are lost: what the image tokens say, beside what the LM says of the same pictures.

    python -m zoo.lens --count 100 --json lens.json

The lens reads the names off the image tokens as `zoo.words` wrote them, without running the LM
(`zoo.reading`): the name, of all that were trained, that they likeliest spell. The LM answers
"What is this?" greedily. Both see unseen views of training drawings and OpenMoji's dev half, or
Tux Paint's stamps (``--stamps``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from neva.evaluate import TASKS, read
from neva.evaluate.normalise import bare
from neva.images import read_image
from neva.model import Checkpoint
from neva.model.features import image_features
from neva.model.load import load_model
from zoo.augment import compose, load, normalise
from zoo.clip_data import Sampler, usable
from zoo.judged import data_of
from zoo.reading import Reader, openmoji_dev
from zoo.rounds import ROUNDS, Place
from zoo.share import quick_type

QUESTION = "\nWhat is this?<|im_end|>\n<|im_start|>assistant\n"
MOST = 12
SEED = 99


@dataclass(frozen=True)
class Pictures:
    """Normalised pixels ``(N, 3, 128, 128)`` and the true names."""

    pixels: Tensor
    names: list[str]


def trained(sampler: Sampler, count: int) -> Pictures:
    """New views of emoji and flags that were trained on."""
    rng = np.random.default_rng(SEED)
    drawings = sampler.gallery.drawings
    rows = [i for i, d in enumerate(drawings) if usable(d) and d.kind in ("emoji", "flag")]
    items = [sampler.art(int(row), rng) for row in rng.choice(rows, count, replace=False)]
    views = compose(items, load(items, sampler, np.zeros((0,), np.uint8)), rng)
    return Pictures(normalise(views.images), [item.concept for item in items])


def unseen(work: Path, count: int) -> Pictures:
    """Some of OpenMoji's dev half."""
    pixels, names = openmoji_dev(work)
    count = min(count, len(names))
    rows = np.random.default_rng(SEED).choice(len(names), count, replace=False)
    return Pictures(normalise(pixels[rows]), [names[int(row)] for row in rows])


@torch.no_grad()
def say(model: torch.nn.Module, tokens: Tensor, tokenizer: Tokenizer) -> list[str]:
    """The LM's greedy answers to "What is this?" for image tokens ``(N, P, D)``."""
    embed = model.get_input_embeddings()  # type: ignore[operator]
    ids = [torch.tensor([tokenizer.encode(t, add_special_tokens=False).ids])
           for t in ("<|im_start|>user\n", QUESTION)]  # fmt: skip
    before, after = (embed(part).expand(len(tokens), -1, -1) for part in ids)
    end = tokenizer.token_to_id("<|im_end|>")
    prompt = torch.cat([before, tokens.to(before.dtype), after], 1)
    said = torch.empty(len(tokens), 0, dtype=torch.long)
    past = None
    for _ in range(MOST):
        out = model.model.language_model(  # type: ignore[union-attr,operator]
            inputs_embeds=prompt, past_key_values=past, use_cache=True
        )
        past = out.past_key_values
        best = model.lm_head(out.last_hidden_state[:, -1]).argmax(-1, keepdim=True)  # type: ignore[operator]
        said, prompt = torch.cat([said, best], 1), embed(best)
    answers = [row[: row.index(end)] if end in row else row for row in said.tolist()]
    return [tokenizer.decode(answer) for answer in answers]


class Lens:
    """A checkpoint, and a reader that knows every name that was trained."""

    def __init__(self, checkpoint: Path, work: Path) -> None:
        self.parent = Checkpoint.open(checkpoint)
        self.model = load_model(self.parent, "cpu", quick_type()).eval()
        self.tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.sampler = Sampler(work)
        table = self.model.get_input_embeddings().weight.detach()
        names = sorted({d.concept for d in self.sampler.gallery.drawings if usable(d)})
        known = table[: self.parent.image_token_id].float()
        self.reader = Reader(names, known, self.tokenizer)

    @torch.no_grad()
    def readings(self, pixels: Tensor) -> dict[str, list[str]]:
        """What is read off the tokens of normalised pixels ``(N, 3, 128, 128)``, and said."""
        features = image_features(self.model, pixels, self.parent.pixels)
        tokens = self.model.model.multi_modal_projector(features.to(quick_type())).float()
        said = say(self.model, tokens, self.tokenizer)
        return {"lens": self.reader.read(tokens), "lm": said}


def measure(lens: Lens, work: Path, count: int) -> dict[str, dict[str, float]]:
    """Shares of exact names, by the lens and by the LM."""
    views = {"trained": trained(lens.sampler, count), "unseen": unseen(work, count)}
    return {
        title: {
            who: float(
                np.mean([bare(a) == bare(b) for a, b in zip(said, pictures.names, strict=True)])
            )
            for who, said in lens.readings(pictures.pixels).items()
        }
        for title, pictures in views.items()
    }


def measure_stamps(lens: Lens, packages: Path, part: int = 64) -> dict[str, dict[str, int]]:
    """How many of Tux Paint's stamps are right by the judge of `neva eval stamps`, by kind."""
    task = TASKS["stamps"]
    items = read(task, data_of("stamps", packages))
    squares = [lens.parent.pixels.square(read_image(item.image)) for item in items if item.image]
    pixels = normalise(torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255)
    right: dict[str, Counter[str]] = {"lens": Counter(), "lm": Counter()}
    for first in range(0, len(items), part):
        for who, said in lens.readings(pixels[first : first + part]).items():
            for item, name in zip(items[first:], said, strict=False):
                for group in ("all", item.kind):
                    right[who][group] += task.judge(item, name)[1] == 1
    return {who: dict(counts) for who, counts in right.items()}


def main(argv: list[str] | None = None) -> int:
    """Print and keep the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--model", type=Path, help="default: of the last round")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--stamps", action="store_true", help="count Tux Paint's stamps instead")
    parser.add_argument("--json", type=Path)
    o = parser.parse_args(argv)
    lens = Lens(o.model or Place(o.work, ROUNDS[-1].name).run / "final", o.work)
    if o.stamps:
        text = json.dumps(measure_stamps(lens, o.work / "packages"), indent=1)
    else:
        text = json.dumps({"count": o.count, **measure(lens, o.work, o.count)}, indent=1)
    print(text)
    if o.json:
        o.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
