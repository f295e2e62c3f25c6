"""What image processors say otherwise than CLIP's: llama.cpp sees the same numbers, or is refused.

llama.cpp computes (byte / 255 - mean) / std, and resizes by a bicubic filter.
"""

from pathlib import Path
from typing import Any

import gguf_models as models
import numpy as np
import pytest

from neva.deploy.gguf.export import write_gguf
from neva.errors import CheckpointError
from neva.model import Checkpoint

PREPROCESSOR = "preprocessor_config.json"


def with_pixels(folder: Path, **said: Any) -> Path:
    models.tiny(folder)
    models.change(folder / PREPROCESSOR, **said)
    return folder


@pytest.mark.parametrize("rescale", [1 / 255, 2 / 255, 1.0, 1 / 127.5])
def test_pixels_are_ours_whatever_they_are_multiplied_by(tmp_path: Path, rescale: float) -> None:
    path = with_pixels(tmp_path / "tiny", rescale_factor=rescale)
    found, _ = models.read(models.exported(path, tmp_path / "out")[1])
    mean, std = (np.array(found[f"clip.vision.image_{name}"]) for name in ("mean", "std"))
    square = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    theirs = np.moveaxis((square / 255 - mean) / std, -1, 0)
    assert np.allclose(theirs, Checkpoint.open(path).pixels.normalise(square), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"rescale_factor": 0.0}, "rescale_factor is 0.0"),
        ({"rescale_factor": float("nan")}, "rescale_factor is nan"),
        ({"resample": 9}, "resample is 9"),
    ],
)
def test_recipes_that_make_no_picture(tmp_path: Path, said: dict[str, Any], sentence: str) -> None:
    source = Checkpoint.open(with_pixels(tmp_path / "tiny", **said))
    with pytest.raises(CheckpointError, match=rf"tiny: .*{sentence}.*; mend it"):
        write_gguf(source, tmp_path / "out")


@pytest.mark.parametrize("resample", [2, 3])
def test_another_filter_is_told(tmp_path: Path, resample: int) -> None:
    path = with_pixels(tmp_path / "tiny", resample=resample)
    models.exported(path, tmp_path / "out")
    told = (tmp_path / "out" / "README.md").read_text()
    assert ("this model's own is bilinear (Pillow's filter 2)" in told) == (resample == 2)
    assert ("another bicubic filter" in told) == (resample == 3)
