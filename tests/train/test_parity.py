"""Our loop against the plainest one: padded batches, Hugging Face's own loss, torch's AdamW."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from neva.data.batch import PreparedImages
from neva.data.samples import Encoding, Sample, encode_record
from neva.data.stores import Folder
from neva.model import Checkpoint, read_tensors
from neva.model.arrays import as_array
from neva.model.features import normalise
from neva.model.keys import PROJECTOR, VISION, disk_name
from neva.model.load import load_model
from neva.train.feed import Feed
from neva.train.loop import run
from neva.train.recipe import Recipe
from neva.train.schedule import rate
from neva.train.story import read_lines

STEPS = 4


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_losses_and_weights_are_those_of_a_plain_loop(
    stage: str, parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        learning_rate=1e-3, batch_size=5, max_steps=STEPS, max_length=512, row_tokens=512,
        precision="fp32", threads=1, weight_decay=0.1,
    ).with_values(stage=stage)  # fmt: skip
    run(recipe, parent.path, [data], pictures, tmp_path / "run")
    ours = [line["loss"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")]
    theirs, weights = plain_loop(recipe, parent, data, pictures)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    made = read_tensors(Checkpoint.open(tmp_path / "run" / "final"))
    for name in made:
        a, b = made[name].astype(np.float32), weights[name].astype(np.float32)
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4, err_msg=name)  # bfloat16 on disk


def plain_loop(
    recipe: Recipe, parent: Checkpoint, data: Path, pictures: Path
) -> tuple[list[float], dict[str, np.ndarray]]:
    model = load_model(parent, dtype=torch.float32, attention="eager")
    learned = []
    for name, parameter in model.named_parameters():
        disk = disk_name(name)
        learns = disk.startswith(PROJECTOR)
        learns |= recipe.stage == "finetune" and not disk.startswith(VISION)
        parameter.requires_grad_(learns)
        learned += [parameter] if learns else []
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.999))
    losses = []
    for step, samples in enumerate(batches(recipe, parent, data, pictures)):
        for group in adam.param_groups:
            group["lr"] = recipe.learning_rate * rate(step, STEPS, recipe)
        loss = model(**padded(samples, parent, pictures)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, recipe.grad_clip)
        adam.step()
        adam.zero_grad()
        losses.append(float(loss.detach()))
    state = {disk_name(name): as_array(tensor) for name, tensor in model.state_dict().items()}
    return losses, state


def batches(recipe: Recipe, parent: Checkpoint, data: Path, pictures: Path) -> list[list[Sample]]:
    """The samples of each step, in the order of our stream."""
    feed = Feed.open(recipe.with_values(feature_cache=False), parent, [data], pictures)
    feed.attach(None, print)
    with feed:
        steps = [feed.next_step() for _ in range(STEPS)]
    encoding = Encoding(
        feed.template, parent.tokenizer, parent.image_token_id, parent.image_tokens, 512
    )
    samples = {record.id: encode_record(record, encoding) for record in feed.records}
    return [[samples[id] for id in step.sample_ids] for step in steps if step]


def padded(samples: list[Sample], parent: Checkpoint, pictures: Path) -> dict[str, torch.Tensor]:
    folder = PreparedImages(Folder(pictures), parent.pixels)
    squares = [folder(name).square for sample in samples for name in sample.images]
    ids = [torch.tensor(sample.encoded.ids) for sample in samples]
    labels = [
        torch.where(torch.tensor(sample.encoded.supervised), tokens, -100)
        for sample, tokens in zip(samples, ids, strict=True)
    ]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_mask": pad_sequence([torch.ones_like(t) for t in ids], batch_first=True),
        "pixel_values": normalise(torch.from_numpy(np.stack(squares)), parent.pixels),
    }
