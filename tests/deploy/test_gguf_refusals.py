"""The export to GGUF refuses what llama.cpp would compute otherwise, and leaves nothing behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_models as models
import numpy as np
import pytest

from neva.deploy.gguf import export as door
from neva.deploy.gguf.export import write_gguf
from neva.deploy.gguf.file import KINDS
from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.checkpoint import read_tensors
from neva.model.weights import write_tensors

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


HEAD = "language_model.lm_head.weight"
NORM = "language_model.model.norm.weight"


def with_number(tiny: Path, folder: Path, name: str, value: float) -> Path:
    """A copy of the tiny checkpoint with another number in one of its tensors."""
    shutil.copytree(tiny, folder)
    tensors = {k: np.array(v) for k, v in read_tensors(Checkpoint.open(folder)).items()}
    tensors[name].flat[5] = value
    write_tensors(folder, tensors)
    return folder


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("f16", 1e5, "float16"),
        ("f16", -1e5, "float16"),
        ("q8_0", 1e7, "q8_0"),
        ("q8_0", -8.4e6, "q8_0"),
        ("bf16", 3.4e38, "bfloat16"),
    ],
)
def test_numbers_beyond_a_kind(
    tiny: Path, tmp_path: Path, kind: str, value: float, said: str
) -> None:
    folder = with_number(tiny, tmp_path / "large", HEAD, value)
    words = rf"large: output\.weight.* too large for {said}.*--weights f32"
    with pytest.raises(CheckpointError, match=words):
        write_gguf(Checkpoint.open(folder), tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()
    write_gguf(Checkpoint.open(folder), tmp_path / "out", "f32")


@pytest.mark.parametrize(("kind", "value"), [("q8_0", 8.3e6), ("f16", 65504), ("bf16", 3.38e38)])
def test_the_largest_numbers_of_a_kind(tiny: Path, tmp_path: Path, kind: str, value: float) -> None:
    folder = with_number(tiny, tmp_path / "large", HEAD, value)
    _, tensors = models.read(models.exported(folder, tmp_path / "out", kind)[0])
    assert tensors["output.weight"].flat[5] == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [HEAD, NORM, "multi_modal_projector.linear_1.weight"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(
    tiny: Path, tmp_path: Path, kind: str, name: str, value: float
) -> None:
    folder = with_number(tiny, tmp_path / "damaged", name, value)
    with pytest.raises(CheckpointError, match=r"damaged: .*not finite; the checkpoint is damaged"):
        write_gguf(Checkpoint.open(folder), tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


def test_all_or_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(door, "write_vision", fail)
    with pytest.raises(OSError, match="no space"):
        write_gguf(Checkpoint.open(tiny), tmp_path / "out")
    assert not list(tmp_path.iterdir())
