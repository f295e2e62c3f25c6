"""The packed forward is plain Hugging Face, sample by sample: loss, gradients, frozen parts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from small import LANGUAGES
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from neva.images import from_pixels
from neva.model import Checkpoint, forward, head
from neva.model.compose import compose
from neva.model.features import image_features
from neva.model.forward import PackedInputs, packed_forward
from neva.model.load import load_model


@dataclass(frozen=True)
class Sample:
    """One document: ids with `images` pictures in front, the last `answer` tokens supervised."""

    ids: Tensor
    supervised: Tensor
    squares: Tensor  # uint8 (n, 16, 16, 3)


def sample(checkpoint: Checkpoint, seed: int, images: int, length: int, answer: int) -> Sample:
    dice = torch.Generator().manual_seed(seed)
    text = torch.randint(0, 256, (length,), generator=dice)
    pictures = torch.full((images * checkpoint.image_tokens,), checkpoint.image_token_id)
    ids = torch.cat([text[:2], pictures, text[2:]])
    supervised = torch.zeros(len(ids), dtype=torch.bool)
    supervised[-answer:] = True
    squares = torch.randint(0, 256, (images, 16, 16, 3), generator=dice, dtype=torch.uint8)
    return Sample(ids, supervised, squares)


def pack(*samples: Sample) -> PackedInputs:
    lengths = [len(s.ids) for s in samples]
    squares = torch.cat([s.squares for s in samples])
    return PackedInputs(
        ids=torch.cat([s.ids for s in samples]),
        positions=torch.cat([torch.arange(n) for n in lengths]),
        cu_seqlens=torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
        supervised=torch.cat([s.supervised for s in samples]),
        images=squares if len(squares) else None,
    )


def alone(
    model: LlavaForConditionalGeneration, checkpoint: Checkpoint, one: Sample
) -> tuple[Tensor, int]:
    """The sample's summed loss by Hugging Face's own forward with labels."""
    labels = torch.where(one.supervised, one.ids, -100)
    labels[0] = -100
    count = int((labels != -100).sum())
    recipe = checkpoint.pixels
    pixels = [recipe.pixels(from_pixels(square.numpy())) for square in one.squares]
    given = {"pixel_values": torch.from_numpy(np.stack(pixels))} if pixels else {}
    return model(input_ids=one.ids[None], labels=labels[None], **given).loss * count, count


def mixed(checkpoint: Checkpoint) -> list[Sample]:
    return [
        sample(checkpoint, 1, images=1, length=9, answer=4),
        sample(checkpoint, 2, images=0, length=12, answer=12),  # text alone, supervised throughout
        sample(checkpoint, 3, images=2, length=7, answer=3),
    ]


@pytest.mark.parametrize("family", LANGUAGES)
def test_packed_is_each_sample_alone(family: str, composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed[family]
    samples = mixed(checkpoint)
    ours = load_model(checkpoint)
    loss, count = packed_forward(ours, pack(*samples), checkpoint.pixels)
    loss.backward()

    theirs = LlavaForConditionalGeneration.from_pretrained(checkpoint.path).eval()
    theirs.model.vision_tower.requires_grad_(False)
    single = [alone(theirs, checkpoint, one) for one in samples]
    expected = sum(part for part, _ in single)
    expected.backward()

    assert count == sum(n for _, n in single) == 4 + 11 + 3
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if "vision_tower" in name:
            assert parameter.grad is None
        else:
            found, wanted = parameter.grad, reference[name].grad
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-5, msg=name)


def test_documents_do_not_see_each_other(composed: dict[str, Checkpoint]) -> None:
    for checkpoint in composed.values():
        model = load_model(checkpoint)
        first, *rest = mixed(checkpoint)
        with torch.no_grad():
            whole, _ = packed_forward(model, pack(*rest, first), checkpoint.pixels)
            moved, _ = packed_forward(model, pack(first, *rest), checkpoint.pixels)
            parts = [packed_forward(model, pack(s), checkpoint.pixels)[0] for s in (first, *rest)]
        torch.testing.assert_close(whole, moved, rtol=1e-5, atol=0)
        torch.testing.assert_close(whole, torch.stack(parts).sum(), rtol=1e-5, atol=0)


def test_rows_of_round_lengths_are_the_same(
    composed: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, results = composed["llama"], []
    row = pack(*mixed(checkpoint))
    assert len(row.ids) % forward.SIZES and len(forward._rounded(row).ids) == forward.SIZES
    for long in (forward.LONG, 0):
        monkeypatch.setattr(forward, "LONG", long)
        model = load_model(checkpoint)
        loss, count = packed_forward(model, row, checkpoint.pixels)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((loss.detach(), count, gradients))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_a_sliding_window_holds_within_documents(
    clip: object, languages: dict[str, object], composed: dict[str, Checkpoint], tmp_path: object
) -> None:
    checkpoint = composed["mistral"]
    one = sample(checkpoint, 5, images=0, length=20, answer=10)
    losses = {}
    for window in (4, None):
        ours = load_model(checkpoint)
        theirs = LlavaForConditionalGeneration.from_pretrained(checkpoint.path).eval()
        for model in (ours, theirs):
            model.config.text_config.sliding_window = window
            for layer in model.model.language_model.layers:
                layer.self_attn.config.sliding_window = window
        with torch.no_grad():
            losses[window], _ = packed_forward(ours, pack(one), checkpoint.pixels)
            torch.testing.assert_close(losses[window], alone(theirs, checkpoint, one)[0])
    assert not torch.allclose(losses[4], losses[None])


def test_cached_features_are_live_images(composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed["llama"]
    model = load_model(checkpoint)
    live = pack(*mixed(checkpoint))
    cached = replace(
        live, images=None, features=image_features(model, live.images, checkpoint.pixels)
    )
    assert cached.features.shape == (3, checkpoint.image_tokens, 24)
    assert not cached.features.requires_grad
    found, expected = (packed_forward(model, row, checkpoint.pixels)[0] for row in (cached, live))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("layer", [-1, -2, -4, 1, 3])
def test_features_are_hugging_faces(composed: dict[str, Checkpoint], layer: int) -> None:
    model = load_model(composed["gpt2"])
    model.config.vision_feature_layer = layer
    model.model.config.vision_feature_layer = layer
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features = image_features(model, pixels, composed["gpt2"].pixels)
        found = model.model.multi_modal_projector(features)
        expected = model.model.get_image_features(pixels, vision_feature_layer=layer).pooler_output
    torch.testing.assert_close(found, torch.stack(tuple(expected)), rtol=0, atol=0)


def test_many_targets_in_pieces_are_the_same(
    composed: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = composed["qwen2"]
    gradients = []
    for chunk in (head.CHUNK, 4):
        monkeypatch.setattr(head, "CHUNK", chunk)
        model = load_model(checkpoint)
        loss, _ = packed_forward(model, pack(*mixed(checkpoint)), checkpoint.pixels)
        (loss / 7).backward()  # as a step divides it
        gradients.append((loss.detach(), model.lm_head.weight.grad))
        with torch.no_grad():
            judged, _ = packed_forward(model, pack(*mixed(checkpoint)), checkpoint.pixels)
        torch.testing.assert_close(judged, loss.detach(), rtol=0, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


def test_a_row_without_images_or_targets_still_goes_backward(
    composed: dict[str, Checkpoint],
) -> None:
    checkpoint = composed["llama"]
    model = load_model(checkpoint).requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    text = sample(checkpoint, 7, images=0, length=5, answer=2)
    silent = replace(text, supervised=torch.zeros_like(text.supervised))
    for one, expected in ((text, 2), (silent, 0)):
        loss, count = packed_forward(model, pack(one), checkpoint.pixels)
        loss.backward()
        assert count == expected and (loss > 0) == bool(expected)
    projector = model.model.multi_modal_projector
    assert all(not p.grad.any() for p in projector.parameters())


def test_image_tokens_and_images_must_agree(composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed["llama"]
    row = pack(sample(checkpoint, 1, images=2, length=5, answer=1))
    with pytest.raises(ValueError, match="8 image tokens for 1 images of 4"):
        packed_forward(
            load_model(checkpoint), replace(row, images=row.images[:1]), checkpoint.pixels
        )


def test_the_model_still_generates(composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed["gpt_neox"]
    one = sample(checkpoint, 4, images=0, length=6, answer=1)
    texts = [
        load_model(checkpoint, attention=kind).generate(
            input_ids=one.ids[None], max_new_tokens=8, do_sample=False
        )
        for kind in ("packed", "sdpa", "eager")
    ]
    assert texts[0].tolist() == texts[1].tolist() == texts[2].tolist()


def test_a_linear_projector_learns_only_its_one_map(
    clip: object, languages: dict[str, object], tmp_path: object
) -> None:
    from neva.model.projector import learning_parameters

    checkpoint = compose(clip, languages["gpt2"], "linear", tmp_path / "linear", dtype="float32")
    model = load_model(checkpoint)
    act = checkpoint.config["projector_hidden_act"]
    learning = learning_parameters(model.model.multi_modal_projector, act)
    assert set(learning) == {"linear_1.weight", "linear_1.bias"}
