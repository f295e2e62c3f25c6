"""Loading: what transformers itself loads, parts alone, and no more memory than the model takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small import write_clip, write_language
from transformers import LlavaForConditionalGeneration

from neva.errors import CheckpointError
from neva.model import Checkpoint, write_tensors
from neva.model.compose import compose
from neva.model.features import image_features
from neva.model.load import load_model
from neva.model.stored import stored_tensors
from neva.model.weights import SINGLE, read_weights

GROWTH = """
import resource, sys, torch
from neva.model import Checkpoint
from neva.model.load import load_model
small, large = map(Checkpoint.open, sys.argv[1:])
load_model(small, dtype=torch.bfloat16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(large, dtype=torch.bfloat16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_weights_are_those_that_transformers_loads(
    composed: dict[str, Checkpoint], dtype: torch.dtype | None
) -> None:
    for checkpoint in composed.values():
        ours = load_model(checkpoint, dtype=dtype, attention="sdpa")
        theirs = LlavaForConditionalGeneration.from_pretrained(
            checkpoint.path, dtype=dtype or "auto"
        )
        found, expected = ours.state_dict(), theirs.state_dict()
        assert list(found) == list(expected) and ours.dtype == theirs.dtype
        for name in expected:
            assert found[name].dtype == expected[name].dtype
            assert torch.equal(found[name], expected[name]), name
        for name, buffer in theirs.named_buffers():  # RoPE's frequencies are on no disk
            assert torch.equal(ours.get_buffer(name), buffer), name
        assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()


def test_a_part_is_loaded_without_the_other(composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed["llama"]
    whole = load_model(checkpoint)
    tower = load_model(checkpoint, without=["language"])
    blind = load_model(checkpoint, without=["vision"])
    assert tower.lm_head is None and tower.model.language_model is None
    assert blind.model.vision_tower is None
    squares = torch.randint(0, 255, (2, 16, 16, 3), dtype=torch.uint8)
    features = [image_features(m, squares, checkpoint.pixels) for m in (tower, whole)]
    assert torch.equal(*features)
    names = {name for name, _ in whole.named_parameters() if "vision_tower" not in name}
    assert {name for name, _ in blind.named_parameters()} == names
    ids = torch.randint(0, 250, (1, 9))
    with torch.no_grad():
        assert torch.equal(*(m(input_ids=ids).logits for m in (blind, whole)))


def test_written_as_safetensors_writes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {f"layer.{n}": random.standard_normal((3, n)).astype(np.float32) for n in range(12)}
    tensors |= {"ü": np.arange(5), "byte": np.ones(3, np.uint8), "half": np.ones(7, np.float16)}
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    write_tensors(tmp_path, tensors)
    assert (tmp_path / SINGLE).read_bytes() == (tmp_path / "theirs").read_bytes()
    write_tensors(tmp_path, read_weights(tmp_path))  # over the file that they are mapped from
    assert (tmp_path / SINGLE).read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_kind_of_number_that_nobody_reads_is_named(tmp_path: Path) -> None:
    tensors = {"x": torch.ones(3, dtype=torch.float8_e4m3fn)}
    from safetensors.torch import save_file as save

    save(tensors, tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match="x is F8_E4M3, which neva cannot read"):
        stored_tensors(tmp_path)["x"][...]


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB there")
def test_a_float32_file_never_stands_in_memory(tmp_path: Path) -> None:
    """A bfloat16 model of a file of 120 MB: its own 60 MB, and a tensor or four beside it."""
    clip = write_clip(tmp_path / "clip")
    checkpoints = []
    for width, layers in ((32, 1), (512, 8)):
        language = write_language(
            tmp_path / f"lm{width}", "llama", hidden_size=width, intermediate_size=4 * width,
            num_hidden_layers=layers,
        )  # fmt: skip
        out = tmp_path / f"model{width}"
        checkpoints.append(compose(clip, language, "linear", out, dtype="float32").path)
    size = (checkpoints[1] / SINGLE).stat().st_size
    assert size > 1e8
    command = [sys.executable, "-c", GROWTH, *map(str, checkpoints)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 0.75 * size  # 1.5 times where the file is mapped
