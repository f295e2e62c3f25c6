"""Our pixels are Hugging Face's pixels, and a strip of 1 x 20,000 costs no memory."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hostile import noise
from PIL import Image

from neva.errors import CheckpointError
from neva.images import PixelRecipe, from_pixels

SIZES = [(64, 64), (100, 60), (60, 101), (33, 47), (20, 20), (7, 50), (640, 480), (1, 1), (3, 200)]


def theirs(kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    if kind == "clip":
        return transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil
    return transformers.models.llava.image_processing_pil_llava.LlavaImageProcessorPil


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "aspect"), [("clip", "square"), ("clip", "stretch"), ("llava", "pad")]
)
def test_pixels_equal_hugging_faces(kind: str, aspect: Any, size: tuple[int, int]) -> None:
    recipe = PixelRecipe(56, aspect, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    processor = theirs(kind).from_dict(recipe.to_config())
    picture = noise(*size, seed=sum(size))
    expected = np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0]
    ours = recipe.pixels(from_pixels(np.asarray(picture)))
    assert ours.shape == expected.shape == (3, 56, 56) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("aspect", ["square", "pad", "stretch"])
def test_the_config_round_trips(aspect: Any) -> None:
    recipe = PixelRecipe(336, aspect, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert PixelRecipe.from_config(recipe.to_config()) == recipe


@pytest.mark.parametrize(
    ("config", "size", "aspect"),
    [
        ({}, 224, "square"),
        ({"size": 224, "crop_size": 224, "resample": 3}, 224, "square"),
        (
            {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
            336,
            "square",
        ),
        ({"size": {"shortest_edge": 336}, "do_pad": True}, 336, "pad"),
        ({"size": {"height": 64, "width": 64}, "do_center_crop": False}, 64, "stretch"),
    ],
)
def test_configs_in_the_wild(config: dict[str, Any], size: int, aspect: str) -> None:
    recipe = PixelRecipe.from_config(config)
    assert (recipe.size, recipe.aspect) == (size, aspect)
    assert recipe.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"height": 10, "width": 20}},
        {"size": {"longest_edge": 10}},
        {"size": "big"},
        {"size": 256, "crop_size": 224},
        {"do_normalize": False},
    ],
)
def test_unsupported_configs_say_so(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        PixelRecipe.from_config(config)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (2, 9_000)])
@pytest.mark.parametrize("aspect", ["square", "pad", "stretch"])
def test_strips_cost_little(aspect: Any, size: tuple[int, int]) -> None:
    image = from_pixels(np.asarray(Image.new("RGB", size, (255, 0, 0))))
    tracemalloc.start()
    square = PixelRecipe(224, aspect).square(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert square.shape == (224, 224, 3)
    assert (square[112, 112] == (255, 0, 0)).all() or aspect == "pad"
    assert peak < 50 * 2**20  # numpy's share; Pillow's canvas is at most EXTREME squared


def test_padding_is_the_mean_colour() -> None:
    recipe = PixelRecipe(64, "pad")
    square = recipe.square(from_pixels(np.zeros((64, 32, 3), np.uint8)))
    assert tuple(square[0, 0]) == (122, 116, 104)
    assert square[32, 32].max() == 0


def test_normalise_takes_batches() -> None:
    recipe = PixelRecipe(8)
    squares = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    whole = recipe.normalise(squares)
    assert whole.shape == (5, 3, 8, 8) and whole.flags.c_contiguous
    assert np.array_equal(whole[3], recipe.normalise(squares[3]))
