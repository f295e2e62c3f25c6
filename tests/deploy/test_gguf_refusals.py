"""The export to GGUF refuses what llama.cpp would compute otherwise, and leaves nothing behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_models as models
import numpy as np
import pytest

from neva.deploy.gguf import export as door
from neva.deploy.gguf.export import write_gguf
from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.checkpoint import read_tensors


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.tiny(tmp_path_factory.mktemp("gguf") / "tiny")


@pytest.fixture
def changed(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny checkpoint with other words in one of its JSON files."""

    def make(file: str = "config.json", **values: Any) -> Path:
        folder = tmp_path / "changed"
        folder.mkdir()
        for one in tiny.iterdir():
            if one.is_file():
                (folder / one.name).write_bytes(one.read_bytes())
        models.change(folder / file, **values)
        return folder

    return make


TOKENIZER = "tokenizer.json"
SPLIT = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        (TOKENIZER, {"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, "space in front"),
        (TOKENIZER, {"pre_tokenizer": None}, "no byte-level BPE"),
        (TOKENIZER, {"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        (TOKENIZER, {"model": {"ignore_merges": True}}, "another way"),
        (
            TOKENIZER,
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, BYTES]}},
            "not among those compared",
        ),
        ("config.json", {"vision_feature_select_strategy": "full"}, "class token"),
        ("config.json", {"vision_config": {"hidden_act": "relu"}}, "activation 'relu'"),
        ("config.json", {"projector_hidden_act": "relu"}, "projector's activation"),
        ("config.json", {"text_config": {"hidden_act": "gelu"}}, "activation 'gelu'"),
        (
            "config.json",
            {"text_config": {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}},
            "rotary scaling 'yarn'",
        ),
        ("config.json", {"text_config": {"eos_token_id": [0, 1, 2, 5]}}, "4 tokens end an answer"),
    ],
)
def test_what_llama_cpp_would_do_otherwise_is_refused(
    changed: Callable[..., Path], tmp_path: Path, file: str, values: dict[str, Any], said: str
) -> None:
    source = Checkpoint.open(changed(file, **values))
    with pytest.raises(CheckpointError, match=said):
        write_gguf(source, tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["changed"]


def test_merges_that_scores_cannot_tell_are_refused(tmp_path: Path) -> None:
    state = json.loads(models.tokenizer("sentencepiece").to_str())
    state["model"]["merges"] = state["model"]["merges"][:-1]
    path = models.tiny_with(tmp_path / "tiny", models.Tokenizer.from_str(json.dumps(state)))
    with pytest.raises(CheckpointError, match="make a token, but no merge"):
        write_gguf(Checkpoint.open(path), tmp_path / "out")


def test_unknown_kinds_and_full_folders(tiny: Path, tmp_path: Path) -> None:
    source = Checkpoint.open(tiny)
    with pytest.raises(CheckpointError, match="no GGUF kind 'q4_0'; choose one of: f32"):
        write_gguf(source, tmp_path / "out", "q4_0")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(CheckpointError, match="already exists"):
        write_gguf(source, tmp_path / "full")


def test_numbers_beyond_float16(tmp_path: Path) -> None:
    from neva.model.weights import write_tensors

    folder = models.tiny(tmp_path / "tiny")
    tensors = {k: np.array(v) for k, v in read_tensors(Checkpoint.open(folder)).items()}
    tensors["language_model.lm_head.weight"][0, 0] = 1e5
    write_tensors(folder, tensors)
    with pytest.raises(CheckpointError, match=r"output\.weight .* too large for float16"):
        write_gguf(Checkpoint.open(folder), tmp_path / "out", "f16")
    assert not (tmp_path / "out").exists()


def test_all_or_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(door, "write_vision", fail)
    with pytest.raises(OSError, match="no space"):
        write_gguf(Checkpoint.open(tiny), tmp_path / "out")
    assert not list(tmp_path.iterdir())
