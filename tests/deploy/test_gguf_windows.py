"""A sliding window is read alike by every export and by the openvino engine: as transformers does.

mistral's configuration class has 4096 where config.json has no key; null there is no window.
"""

import json
from pathlib import Path
from typing import Any

import gguf_models as models
import pytest
from transformers import MistralConfig, Qwen2Config

from neva.deploy.gguf.page import context
from neva.deploy.trtllm.export import settings
from neva.engine.graphs.able import check_config
from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.window import sliding_window

CLASSES = {"mistral": MistralConfig, "qwen2": Qwen2Config}
SAID: list[tuple[str, dict[str, Any]]] = [
    ("mistral", {}),
    ("mistral", {"sliding_window": None}),
    ("mistral", {"sliding_window": 64}),
    ("qwen2", {}),
    ("qwen2", {"sliding_window": 64}),
    ("qwen2", {"sliding_window": 64, "use_sliding_window": False}),
    ("qwen2", {"sliding_window": 64, "use_sliding_window": True}),
    ("qwen2", {"use_sliding_window": True}),
    ("qwen2", {"sliding_window": None, "use_sliding_window": True}),
]


@pytest.mark.parametrize(("family", "said"), SAID)
def test_windows_are_those_of_transformers(family: str, said: dict[str, Any]) -> None:
    found = sliding_window({"text_config": {"model_type": family, **said}})
    assert found == CLASSES[family](**said).sliding_window


@pytest.mark.parametrize("said", [{}, {"model_type": "llama", "sliding_window": 64}, None])
def test_other_families_have_none(said: dict[str, Any] | None) -> None:
    assert sliding_window({"text_config": said}) is None


@pytest.mark.parametrize(("said", "reach"), [({}, 4096), ({"sliding_window": None}, 8192)])
def test_a_mistral_that_says_nothing(tmp_path: Path, said: dict[str, Any], reach: int) -> None:
    folder = models.tiny(tmp_path / "tiny", family="mistral", context=8192)
    config = json.loads((folder / "config.json").read_text())
    del config["text_config"]["sliding_window"]
    config["text_config"] |= said
    (folder / "config.json").write_text(json.dumps(config))
    source = Checkpoint.open(folder)
    assert context(source) == reach and f"\nmax_seq_len: {reach}\n" in settings(source)
    found, _ = models.read(models.exported(folder, tmp_path / "out")[0])
    assert found["llama.context_length"] == reach
    told = (tmp_path / "out" / "README.md").read_text()
    assert f" -c {reach} " in told and ("sliding window, 4096" in told) == (reach == 4096)
    if reach == 8192:
        check_config(source.config)
        return
    with pytest.raises(CheckpointError, match=r"sliding-window attention \(4096 tokens\)"):
        check_config(source.config)
