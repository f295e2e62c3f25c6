"""A row in pieces: the same loss and gradients, every image with its own text."""

import pytest
import torch

from neva.model import Checkpoint
from neva.model.forward import PackedInputs, packed_forward
from neva.model.load import load_model
from neva.train.learner import Learner
from neva.train.pieces import pieces
from neva.train.recipe import Recipe

LENGTHS = (30, 9, 12, 40, 7)
IMAGES = (1, 0, 2, 3, 1)


def row(parent: Checkpoint, cached: bool) -> PackedInputs:
    """Documents of text with images at their beginnings, each image another."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(0, 250, (n,), generator=generator) for n in LENGTHS]
    for tokens, count in zip(ids, IMAGES, strict=True):
        tokens[1 : 1 + count * parent.image_tokens] = parent.image_token_id
    whole = torch.cat(ids)
    count = sum(IMAGES)
    squares = torch.randint(0, 255, (count, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return PackedInputs(
        ids=whole,
        positions=torch.cat([torch.arange(n) for n in LENGTHS]),
        cu_seqlens=torch.tensor([0, *LENGTHS]).cumsum(0).int(),
        supervised=whole != parent.image_token_id,
        images=None if cached else squares,
        features=torch.randn(count, parent.image_tokens, 24, generator=generator)
        if cached
        else None,
    )


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("tokens", [1, 41, 52, 1000])
def test_the_sums_stay(parent: Checkpoint, tokens: int, cached: bool) -> None:
    whole = row(parent, cached)
    parts = list(pieces(whole, tokens, parent.image_token_id))
    assert [len(part.cu_seqlens) - 1 for part in parts] == {
        1: [1, 1, 1, 1, 1], 41: [2, 1, 1, 1], 52: [3, 2], 1000: [5]
    }[tokens]  # fmt: skip
    model = load_model(parent, dtype=torch.float32)
    found = []
    for rows in ([whole], parts):
        model.zero_grad()
        losses = [packed_forward(model, part, parent.pixels) for part in rows]
        sum(loss for loss, _ in losses).backward()
        gradient = model.model.multi_modal_projector.linear_1.weight.grad.clone()
        found.append((sum(float(loss.detach()) for loss, _ in losses), gradient))
        assert sum(count for _, count in losses) == int(whole.supervised.sum()) - len(LENGTHS)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_learner_takes_them_one_by_one(
    stage: str, parent: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neva.train.learner.piece_tokens", lambda _: 41)
    learner = Learner(parent, Recipe(stage=stage), tower=False)
    seen: list[int] = []
    learner.whole.register_forward_pre_hook(lambda _, given: seen.append(len(given[0].ids)))
    assert learner.learn([row(parent, cached=True)], share=1.0).applied
    assert seen == [39, 12, 40, 7]
