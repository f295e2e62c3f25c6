"""The committed CLIP can be gone on with: what `zoo.deepen` adds comes off again, exactly."""

from __future__ import annotations

import torch
from transformers import CLIPConfig, CLIPModel
from zoo.deepen import deepen
from zoo.revive import ridge, shallow, stretched


def test_a_deepened_tower_is_made_shallow_again() -> None:
    part = {"hidden_size": 24, "intermediate_size": 96, "num_attention_heads": 3,
            "projection_dim": 16}  # fmt: skip
    clip = CLIPModel(
        CLIPConfig(
            text_config={**part, "num_hidden_layers": 1, "vocab_size": 50},
            vision_config={**part, "num_hidden_layers": 3, "image_size": 32, "patch_size": 16},
        )
    )
    vision = {k: v for k, v in clip.state_dict().items() if k.startswith("vision_model.")}
    deep = deepen(clip, wide=160).state_dict()
    again = shallow({k: v for k, v in deep.items() if k.startswith("vision_model.")}, 24)
    assert again.keys() == vision.keys()
    assert all(torch.equal(again[k], v) for k, v in vision.items())


def test_ridge_finds_the_map() -> None:
    torch.manual_seed(0)
    inputs, true = torch.randn(400, 12), torch.randn(5, 12)
    assert torch.allclose(ridge(inputs, inputs @ true.T, 1e-8), true, atol=1e-4)


def test_position_embeddings_are_stretched_to_a_finer_grid() -> None:
    across = torch.linspace(-1, 1, 6).expand(6, 6).flatten()
    table = torch.cat([torch.tensor([[9.0]]), across[:, None]])
    wide = stretched(table, 65)
    assert wide.shape == (65, 1) and wide[0] == 9
    grid = wide[1:].view(8, 8)
    assert torch.allclose(grid, grid[:1].expand(8, 8), atol=1e-6)  # every row alike
    assert (grid[0].diff() > 0).all()  # still from left to right
    assert stretched(table, 37) is table
