"""A tiny composed checkpoint and a tiny data set of coloured squares, made once per session."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))  # the model room's small models
from small import write_clip, write_language

from neva.model import Checkpoint
from neva.model.compose import compose

torch.set_num_threads(1)


@pytest.fixture(scope="package", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features are cached in a folder of these tests, also by processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A llama of width 32 behind a CLIP of 4 patches, in bfloat16."""
    folder = tmp_path_factory.mktemp("parent")
    clip = write_clip(folder / "clip")
    language = write_language(folder / "llama", "llama", max_position_embeddings=1024)
    return compose(clip, language, "mlp2x_gelu", folder / "model")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(12):
        colour = list(COLOURS.values())[number % 3]
        noise = random.integers(-20, 20, (20, 24, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def record(number: int) -> dict[str, object]:
    """One LLaVA record; every sixth is text only."""
    name = list(COLOURS)[number % 3]
    image = {} if number % 6 == 5 else {"image": f"{number % 12}.png"}
    marker = "<image>\n" if image else ""
    return {
        "id": f"sample-{number}",
        **image,
        "conversations": [
            {"from": "human", "value": f"{marker}Which colour is it?"},
            {"from": "gpt", "value": name},
        ],
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.json"
    path.write_text(json.dumps([record(number) for number in range(24)]))
    return path
