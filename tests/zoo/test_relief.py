"""Drawings as things under a lamp, and coins: shaded where they turn away, whole, repeatable."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image
from zoo.augment import LIT, redrawn
from zoo.clip_data import Item
from zoo.coins import coins
from zoo.glyphs import OF_THEIR_OWN, Typefaces
from zoo.naming import bodily
from zoo.relief import bent, height_of, lamp, lit, noise, normals_of

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def disc(count: int = 8, size: int = 128, radius: float = 0.4) -> torch.Tensor:
    """An orange disc on nothing, ``(N, 4, S, S)``."""
    rows, columns = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    alpha = (rows.square() + columns.square() < (radius * size) ** 2).float()
    colour = torch.tensor([0.9, 0.5, 0.1])[:, None, None].expand(3, size, size)
    return torch.cat([colour, alpha[None]])[None].expand(count, -1, -1, -1).clone()


def test_a_disc_swells_to_its_middle() -> None:
    flat = disc(radius=0.2)
    height = height_of(torch.zeros(8, 3, 128, 128), flat[:, 3:], np.random.default_rng(0))
    assert (height[:, 0, 64, 64] > height[:, 0, 64, 78] + 1).all()
    assert (height[:, 0, 64, 78] > height[:, 0, 64, 86] + 1).all()
    assert (height[:, 0, 0] == 0).all()
    normals = normals_of(height)
    assert torch.allclose(normals.norm(dim=1), torch.ones(8, 128, 128), atol=1e-5)
    assert (normals[:, 0, 64, 82] > 0.2).all(), "its right side faces right"
    assert (normals[:, 1, 82, 64] > 0.2).all(), "its lower side faces down"


def test_one_side_is_lighter_than_the_other() -> None:
    flat = disc(radius=0.4)
    normals = normals_of(height_of(flat[:, :3], flat[:, 3:], np.random.default_rng(1)))
    shade, gloss = lamp(normals, np.random.default_rng(2))
    rim = torch.stack([shade[:, 0, 20, 64], shade[:, 0, 108, 64],
                       shade[:, 0, 64, 20], shade[:, 0, 64, 108]])  # fmt: skip
    assert (rim.amax(0) > rim.amin(0) + 0.1).all()
    assert gloss.amin() >= 0 and shade.amin() > 0


def test_lit_drawings_are_whole_pictures_of_the_seed() -> None:
    flat = disc()
    one, other = (lit(flat.clone(), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == flat.shape and one.amin() >= 0 and one.amax() <= 1
    assert (one[:, 3].sum((1, 2)) > 0.7 * flat[:, 3].sum((1, 2))).all()
    inside = one[:, :3, 40:88, 40:88]
    assert (inside.std((2, 3)) > 0.004).all(), "nothing is flat any more"


def test_bending_keeps_colours() -> None:
    moved = bent(disc(), np.random.default_rng(4))
    solid = moved[:, 3] > 0.5
    for channel, level in enumerate((0.9, 0.5, 0.1)):
        assert (moved[:, channel][solid] - level).abs().max() < 1e-4


def test_noise_has_no_lean() -> None:
    made = noise(np.random.default_rng(5), 64, 64, channels=3)
    assert made.shape == (64, 3, 64, 64)
    assert abs(made.mean()) < 0.1 and 0.3 < made.std() < 1.2


def test_of_restyled_drawings_some_are_lit_and_others_stay() -> None:
    items = [Item("art", 0, "ball", "ball", style=n % 2 == 0) for n in range(60)]
    before = disc(60)
    after = redrawn(items, before.clone(), np.random.default_rng(6))
    assert torch.equal(after[1::2], before[1::2])
    bodily = (after[::2, :3, 50:78, 50:78].std((2, 3)) > 0.01).any(1).float().mean()
    assert abs(bodily - LIT) < 0.25


def test_coins_are_round_struck_and_different() -> None:
    own = dict.fromkeys(OF_THEIR_OWN.values(), FONTS / "DejaVuSans.ttf")
    typefaces = Typefaces((FONTS / "DejaVuSerif.ttf",), own)
    made = np.stack([np.asarray(c) for c in coins(typefaces, 12, np.random.default_rng(7))])
    assert made.shape == (12, 128, 128, 4)
    alpha = made[..., 3] > 128
    assert not alpha[:, 0, 0].any() and alpha[:, 64, 100].all()
    assert abs(alpha.mean() - np.pi / 4) < 0.06
    assert len({coin.tobytes() for coin in made}) == 12
    assert (made[:, 30:98, 30:98, :3].std((1, 2)) > 3).all()


def test_cut_outs_of_any_proportions_become_things() -> None:
    for size in ((126, 61), (60, 100), (40, 40)):
        flat = Image.new("RGBA", size, (30, 140, 60, 255))
        made = bodily(flat, np.random.default_rng(8))
        assert all(abs(now - before) < 14 for now, before in zip(made.size, size, strict=True))
        assert np.asarray(made)[..., 3].mean() > 150
