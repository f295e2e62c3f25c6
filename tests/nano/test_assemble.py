"""Packed and put together again, the default model is the trained one, bit for bit checked."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_base import write_gguf

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling, collect
from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import carry_files
from neva.model.keys import BODY, disk_name
from neva.nano import default_checkpoint
from neva.nano.base import find_base, write_base
from neva.nano.manifest import WEIGHTS, read_manifest
from neva.nano.pack import pack
from neva.prompts import ask


class Made:
    """A tiny default model: base GGUF, trained checkpoint (merged), peft adapter, packed parts."""

    def __init__(self, root: Path) -> None:
        self.base = write_gguf(root / "base.gguf")
        self.composed, self.final = root / "composed", root / "final"
        self.adapter, self.weights = root / "adapter", root / "weights"
        _compose(root, self.base, self.composed)
        _train(self.composed, self.adapter, self.final)
        self.manifest = pack(self.final, self.adapter, self.weights, base_file=self.base)


def _compose(root: Path, base: Path, out: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    from neva.model.compose import compose

    config = CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModel(config).save_pretrained(root / "clip")
    both = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=both).save_pretrained(root / "clip")
    language = write_base(root / "language", base)
    compose(root / "clip", language, "mlp2x_gelu", out, template="chatml")


def _train(composed: Path, adapter: Path, final: Path) -> None:
    """A random LoRA on every linear of the LM, saved by peft, and merged by peft."""
    import peft
    import torch
    from transformers import LlavaForConditionalGeneration

    from neva.model.arrays import as_array
    from neva.model.weights import write_tensors

    model = LlavaForConditionalGeneration.from_pretrained(composed, dtype=torch.bfloat16)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*_proj")
    wrapped = peft.get_peft_model(model, config)
    for name, value in wrapped.named_parameters():
        if "lora_B" in name:
            value.data.normal_(0, 0.05)
    wrapped.save_pretrained(adapter)
    state = wrapped.merge_and_unload().state_dict()
    final.mkdir()
    carry_files(composed, final)
    shutil.copy(composed / "neva.json", final)
    write_tensors(
        final, {disk_name(n): as_array(v) for n, v in state.items() if "lm_head" not in n}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("nano"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "neva"


def test_the_parts_give_the_trained_model(made: Made, cache: Path) -> None:
    path = default_checkpoint(made.weights, made.base)
    assert path == cache / made.manifest.assembled[:8] / "neva-nano"
    ours, theirs = (read_tensors(Checkpoint.open(p)) for p in (path, made.final))
    assert set(ours) == set(theirs)
    changed = 0
    for name, value in ours.items():
        a, b = value.astype(np.float32), theirs[name].astype(np.float32)
        assert np.abs(a - b).max() <= 2**-7 * np.abs(b).max(), name
        if "_proj" in name and name.startswith(BODY):
            changed += not np.array_equal(
                a, read_tensors(Checkpoint.open(made.composed))[name].astype(np.float32)
            )
    assert changed == 14
    assert default_checkpoint(made.weights, Path("nowhere")) == path  # kept: no base is needed
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "sizes.json"])
@pytest.mark.parametrize("cut", [True, False])
def test_what_lost_a_file_or_half_of_one_is_put_together_anew(
    made: Made, name: str, cut: bool
) -> None:
    path = default_checkpoint(made.weights, made.base)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    (path / "openvino").mkdir()
    if cut:
        (path / name).write_bytes(before[name][: len(before[name]) // 2])
    else:
        (path / name).unlink()
    assert default_checkpoint(made.weights, made.base) == path
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert list(path.parent.iterdir()) == [path]


def test_the_assembled_model_answers(made: Made) -> None:
    engine = open_engine(default_checkpoint(made.weights, made.base))
    assert engine.info.name == "neva-nano"
    request = Request(ask("ab?", images=0), (), Sampling(temperature=0, max_tokens=8))
    _, last = collect(engine.generate([request])[0])
    assert last.finish in ("stop", "length")
    engine.close()


def test_an_unmerged_checkpoint_packs_to_the_same(made: Made, tmp_path: Path) -> None:
    again = pack(made.composed, made.adapter, tmp_path / "weights", base_file=made.base)
    assert again.assembled == made.manifest.assembled


def test_a_damaged_part_is_named_and_nothing_is_left(
    made: Made, tmp_path: Path, cache: Path
) -> None:
    copy = shutil.copytree(made.weights, tmp_path / "copy")
    file = copy / "projector.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"projector\.safetensors: missing or damaged"):
        default_checkpoint(copy, made.base)
    with pytest.raises(CheckpointError, match="not the base LM"):
        default_checkpoint(made.weights, write_gguf(tmp_path / "other.gguf", seed=1))
    assert not [file for file in cache.rglob("*") if file.is_file()]


def test_an_adapter_of_another_model_is_refused(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "other"
    _train(made.composed, other / "adapter", _parent(other / "final"))
    with pytest.raises(CheckpointError, match="does not belong"):
        pack(made.final, other / "adapter", tmp_path / "weights", base_file=made.base)
    assert not (tmp_path / "weights").exists()


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.skipif(not (WEIGHTS / "manifest.json").exists(), reason="not trained yet")
def test_the_committed_model_is_whole() -> None:
    """Base, parts and result by sha256: `default_checkpoint` refuses anything else."""
    find_base()
    path = default_checkpoint()
    assert Checkpoint.open(path).template.name == "chatml"
    assert read_manifest().name == "neva-nano"
