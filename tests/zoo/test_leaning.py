"""Image tokens lean towards where they are and how many there are of what they show."""

from __future__ import annotations

import torch
from zoo.leaning import sampled, targets
from zoo.mosaic_losses import places
from zoo.word_views import Pictures


def test_what_tokens_are_to_lean() -> None:
    at = torch.tensor([[[-1.0, 1.0], [0.0, 0.5]], [[1.0, 0.0], [0.0, 0.0]]])
    leans = targets(at, torch.tensor([[3], [0]]), place=0.5, number=0.25)
    assert torch.equal(leans[..., :2], -0.5 * at)
    assert leans[0, 0, 2:].tolist() == [0, 0, 0.25, 0, 0] == leans[0, 1, 2:].tolist()
    assert not leans[1, :, 2:].any()


def test_directions_tell_place_and_number_and_the_place_comes_first() -> None:
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(24, 24)).Q
    copies = torch.randint(1, 6, (300, 1)).expand(-1, 64)
    known = targets(places().expand(300, -1, -1), copies, 1.0, 1.0)
    states = torch.randn(300, 65, 24) * 0.3
    states[:, 1:, :7] += known
    states = states @ turn.T
    copies = torch.where(torch.rand(300, 64) < 0.3, 0, copies)
    pictures = Pictures(states, copies - 1, copies, ("x",), torch.full((300,), 1 / 300))
    basis = sampled(pictures, 1.0, 1.0).directions()
    assert torch.allclose(basis.T @ basis, torch.eye(7), atol=1e-5)
    inside = basis.T @ turn  # (7, 24): all of it in the first seven, place in the first two
    assert inside[:, :7].norm() > 0.97 * inside.norm()
    assert inside[:2, :2].norm() > 0.97 * inside[:2].norm()
