"""`neva compose` and `neva export` as commands: what they write, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small import LANGUAGES
from transformers import AutoConfig, AutoTokenizer, LlavaForConditionalGeneration

from neva.cli import load
from neva.errors import CheckpointError
from neva.model import Checkpoint, read_tensors
from neva.model.adapter import LoraShape, add_lora, save_adapter
from neva.model.load import load_model
from neva.model.rewrite import rewrite

IDS = torch.tensor([[256, 10, 20, 30]])


def call(*words: object) -> None:
    """Run `neva WORDS`; errors come through as they are raised."""
    verb, *rest = map(str, words)
    load(verb).main(rest, prog_name=f"neva {verb}", standalone_mode=False)


def test_compose_by_command(
    clip: Path, languages: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("--vision", clip, "--language", languages["gpt2"], "--projector", "linear", "-o", out)
    call("compose", *words, "--template", "v0", "--aspect", "square")
    assert capsys.readouterr().out == f"{out}\n"
    checkpoint = Checkpoint.open(out)
    assert checkpoint.template.name == "v0" and checkpoint.provenance.projector == "linear"
    assert checkpoint.pixels.aspect == "square"
    with pytest.raises(CheckpointError, match="already exists"):
        call("compose", *words)


@pytest.mark.parametrize("family", LANGUAGES)
def test_export_mends_what_transformers_saves(
    family: str, composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    fresh = LlavaForConditionalGeneration(AutoConfig.from_pretrained(composed[family].path))
    fresh.load_state_dict(load_model(composed[family]).state_dict())
    foreign = tmp_path / "foreign"
    fresh.save_pretrained(foreign)
    AutoTokenizer.from_pretrained(composed[family].path).save_pretrained(foreign)
    preprocessor = (composed[family].path / "preprocessor_config.json").read_text()
    (foreign / "preprocessor_config.json").write_text(preprocessor)
    names = {entry.name for entry in read_tensors(Checkpoint.open(foreign)).entries.values()}
    assert "vision_tower.pre_layrnorm.weight" in names  # the naming that older versions misread
    call("export", foreign, "hf", "-o", tmp_path / "out", "--template", "v0")
    mended = Checkpoint.open(tmp_path / "out")
    assert mended.provenance.template == "v0" and mended.provenance.stage == "foreign"
    older = ("rope_theta", "rotary_emb_base", "rotary_pct", "partial_rotary_factor")
    for name in (name for name in older if name in composed[family].config["text_config"]):
        assert mended.config["text_config"][name] == composed[family].config["text_config"][name]
    tokens = json.loads((mended.path / "tokenizer_config.json").read_text())
    assert tokens["tokenizer_class"] == "PreTrainedTokenizerFast"
    before, after = read_tensors(composed[family]), read_tensors(mended)
    assert {e.name for e in after.entries.values()} == {e.name for e in before.entries.values()}
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_export_merges_an_adapter(composed: dict[str, Checkpoint], tmp_path: Path) -> None:
    checkpoint = composed["gpt2"]
    model = load_model(checkpoint)
    for parameter in add_lora(model, LoraShape(rank=2, alpha=4)).values():
        torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(model, tmp_path / "adapter")
    out = tmp_path / "out"
    call("export", checkpoint.path, "hf", "-o", out, "--adapter", tmp_path / "adapter")
    with torch.no_grad():
        merged = LlavaForConditionalGeneration.from_pretrained(out)(input_ids=IDS).logits
        torch.testing.assert_close(merged, model(input_ids=IDS).logits, rtol=1e-4, atol=1e-5)
    assert checkpoint.sha256 in Checkpoint.open(out).provenance.parents


def test_export_refuses_other_formats(composed: dict[str, Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no export format 'onnx'; choose one of: hf"):
        call("export", composed["llama"].path, "onnx", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rewriting_in_shards_keeps_every_bit(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    before = read_tensors(composed["llama"])
    after = read_tensors(rewrite(composed["llama"], tmp_path / "out", shard_bytes=20_000))
    assert len({entry.file for entry in after.entries.values()}) > 1
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
