"""Where things are in a scene follows from its geometry, and captions say it."""

import numpy as np
import pytest
from PIL import Image
from zoo.captions import scene_caption
from zoo.scenes import Actor, Placed, Scene, compose_scene, side_of, single, third_of

CAT = Placed("cat", "", (10, 10, 50, 50))
DOG = Placed("dog", "", (140, 12, 180, 52))
RING = Placed("ring", "red", (12, 150, 52, 190))
SCENE = Scene((200, 200), (DOG, CAT, RING))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_sides() -> None:
    assert side_of(CAT, DOG) == ("left", "")
    assert side_of(DOG, CAT) == ("right", "")
    assert side_of(RING, CAT) == ("", "below")
    assert side_of(CAT, RING) == ("", "above")
    assert side_of(RING, DOG) == ("left", "below")


def test_order_and_thirds() -> None:
    assert [o.name for o in SCENE.by_x()] == ["cat", "ring", "dog"]
    assert third_of(SCENE, CAT) == "top left"
    assert third_of(SCENE, RING) == "bottom left"
    assert third_of(SCENE, Placed("x", "", (90, 90, 110, 110))) == "centre"


def test_caption_names_every_object(rng: np.random.Generator) -> None:
    text = scene_caption(SCENE, rng)
    assert all(o.phrase in text for o in SCENE.objects)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_composed_objects_do_not_overlap(count: int) -> None:
    image = Image.new("RGBA", (40, 30), (200, 10, 10, 255))
    actors = [Actor(f"a{i}", "", image) for i in range(count)]
    for seed in range(10):
        canvas, scene = compose_scene(actors, np.random.default_rng(seed))
        assert canvas.size == scene.size and len(scene.objects) == count
        for i, a in enumerate(scene.objects):
            left, top, right, bottom = a.box
            assert 0 <= left < right <= canvas.width and 0 <= top < bottom <= canvas.height
            for b in scene.objects[i + 1 :]:
                apart = right <= b.box[0] or b.box[2] <= left
                assert apart or bottom <= b.box[1] or b.box[3] <= top


def test_same_seed_same_picture() -> None:
    image = Image.new("RGBA", (40, 40), (20, 90, 200, 255))
    first, second = (single(image, "x", np.random.default_rng(7))[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert all(96 <= side <= 320 for side in first.size)


def test_a_third_of_the_pictures_end_where_the_drawing_ends() -> None:
    spoon = Image.new("RGBA", (20, 120), "grey")
    made = [single(spoon, "spoon", np.random.default_rng(seed)) for seed in range(120)]
    narrow = [scene for picture, scene in made if picture.width < 0.45 * picture.height]
    assert 25 < len(narrow) < 60
    for picture, scene in made:
        left, top, right, bottom = scene.objects[0].box
        assert picture.size == scene.size
        assert 0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height
    assert all(scene.objects[0].box[3] > 0.85 * scene.size[1] for scene in narrow)
    assert {picture.width > picture.height for picture, _ in made} == {True, False}
