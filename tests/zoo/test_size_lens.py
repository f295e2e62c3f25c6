"""Where sizes are lost: patches have owners, and a map that knows the size is found."""

import torch
from zoo.scenes import Placed, Scene
from zoo.size_lens import Shown, covered, explained, owner, pairs, patches, squared

SCENE = Scene((200, 100), (Placed("a", "", (0, 0, 100, 100)), Placed("b", "", (150, 25, 200, 75))))


def test_boxes_are_shares_of_the_padded_square() -> None:
    assert squared(SCENE) == ((0.0, 0.25, 0.5, 0.75), (0.75, 0.375, 1.0, 0.625))


def test_each_patch_shows_what_covers_most_of_it() -> None:
    boxes = squared(SCENE)
    shown = [owner(patch, boxes) for patch in patches()]
    assert len(shown) == 64
    assert [shown.count(n) for n in (0, 1)] == [16, 4]
    assert covered((0.0, 0.25, 0.125, 0.375), boxes[0]) == 1.0
    assert shown[0] == -1 and shown[2 * 8] == 0 and shown[3 * 8 + 6] == 1


def test_of_two_the_larger_reads_larger() -> None:
    read, own = torch.tensor([3.0, 3.0, 1.0, 9.0]), torch.tensor([0, 0, 1, -1])
    assert list(pairs(read, own, [0.5, 0.25])) == [True]
    assert list(pairs(-read, own, [0.5, 0.25])) == [False]
    assert list(pairs(read, own, [0.5, 0.4])) == []  # too much alike
    assert list(pairs(read, own, [0.5, 0.25, 0.1])) == [True]  # nothing shows the third


def test_patches_that_know_sizes_are_told_from_those_that_do_not() -> None:
    chance = torch.Generator().manual_seed(0)
    sides = 0.1 + 0.4 * torch.rand(80, 2, generator=chance)
    boxes = tuple(
        ((0.0, 0.0, float(a), float(a)), (0.5, 0.5, 0.5 + float(b), 0.5 + float(b)))
        for a, b in sides
    )
    shown = Shown(torch.zeros(80, 1), boxes)
    own = shown.owners
    lengths = torch.cat([sides, torch.ones(80, 1)], 1).log2()
    noise = torch.randn(80, 64, 2, generator=chance)
    knowing = torch.cat([lengths.gather(1, own % 3)[..., None], noise], -1)
    variance, right = explained(knowing, shown)
    assert variance > 0.9 and right > 0.95
    assert explained(noise, shown)[0] < 0.2
