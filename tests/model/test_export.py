"""`neva compose` and `neva export` as commands: what they write, and what they refuse."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import LANGUAGES
from transformers import AutoConfig, AutoProcessor, LlavaForConditionalGeneration

from neva.cli import load
from neva.errors import CheckpointError
from neva.model import Checkpoint, read_tensors
from neva.model.adapter import LoraShape, add_lora, save_adapter
from neva.model.keys import BODY, HEAD
from neva.model.load import load_model
from neva.model.rewrite import rewrite
from neva.model.save import save_checkpoint
from neva.model.weights import write_tensors
from neva.prompts import TEMPLATES, jinja_template

IDS = torch.tensor([[256, 10, 20, 30]])


def resaved(checkpoint: Checkpoint, out: Path) -> Path:
    """As the transformers of this environment saves it, model and processor."""
    fresh = LlavaForConditionalGeneration(AutoConfig.from_pretrained(checkpoint.path))
    fresh.load_state_dict(load_model(checkpoint).state_dict())
    fresh.save_pretrained(out)
    AutoProcessor.from_pretrained(checkpoint.path).save_pretrained(out)
    return out


def check_tokenizer(folder: Path) -> None:
    """transformers 4.57 can read its configuration: a class that it has, tokens by their names."""
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokens["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert isinstance(tokens.get("extra_special_tokens", {}), dict)


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
    foreign = resaved(composed[family], tmp_path / "foreign")
    assert not (foreign / "preprocessor_config.json").exists()  # it saves processor_config.json
    names = {entry.name for entry in read_tensors(Checkpoint.open(foreign)).entries.values()}
    assert "vision_tower.pre_layrnorm.weight" in names  # the naming that older versions misread
    call("export", foreign, "hf", "-o", tmp_path / "out", "--template", "v0")
    mended = Checkpoint.open(tmp_path / "out")
    assert mended.provenance.template == "v0" and mended.provenance.stage == "foreign"
    older = ("rope_theta", "rotary_emb_base", "rotary_pct", "partial_rotary_factor")
    for name in (name for name in older if name in composed[family].config["text_config"]):
        assert mended.config["text_config"][name] == composed[family].config["text_config"][name]
    check_tokenizer(mended.path)
    assert mended.pixels == composed[family].pixels
    chat = (mended.path / "chat_template.jinja").read_text()
    assert chat == jinja_template(TEMPLATES["v0"], mended.tokenizer)
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
    foreign = resaved(checkpoint, tmp_path / "foreign")
    call("export", foreign, "hf", "-o", tmp_path / "two", "--adapter", tmp_path / "adapter")
    check_tokenizer(tmp_path / "two")
    assert read_tensors(Checkpoint.open(tmp_path / "two")).keys() == read_tensors(checkpoint).keys()


def test_an_adapter_goes_onto_the_weights_it_was_trained_from(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    model = load_model(composed["llama"])
    add_lora(model, LoraShape(rank=2, alpha=4))
    save_adapter(model, tmp_path / "adapter", composed["llama"].sha256)
    call(
        "export",
        composed["llama"].path,
        "hf",
        "-o",
        tmp_path / "a",
        "--adapter",
        tmp_path / "adapter",
    )
    for family, sentence in (("mistral", "was trained from weights with"), ("qwen2", "sha256")):
        words = ("export", composed[family].path, "hf", "-o", tmp_path / family)
        with pytest.raises(CheckpointError, match=sentence):
            call(*words, "--adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / "base.json").unlink()
    record = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**record, "r": 3}))
    with pytest.raises(CheckpointError, match=r"is of another model \(size mismatch"):
        call(
            "export",
            composed["llama"].path,
            "hf",
            "-o",
            tmp_path / "b",
            "--adapter",
            tmp_path / "adapter",
        )


@pytest.mark.parametrize(("top", "text"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("own", [True, False])
def test_a_head_of_its_own_is_kept_whatever_the_configuration_says(
    composed: dict[str, Checkpoint], tmp_path: Path, top: bool, text: bool, own: bool
) -> None:
    source = tmp_path / "source"
    shutil.copytree(composed["mistral"].path, source)
    config = json.loads((source / "config.json").read_text())
    config["tie_word_embeddings"], config["text_config"]["tie_word_embeddings"] = top, text
    (source / "config.json").write_text(json.dumps(config))
    tensors = dict(read_tensors(composed["mistral"]))
    if not own:
        tensors[HEAD] = tensors[f"{BODY}embed_tokens.weight"]
    write_tensors(source, tensors)
    out = rewrite(Checkpoint.open(source), tmp_path / "out")
    said = out.config["tie_word_embeddings"], out.config["text_config"]["tie_word_embeddings"]
    assert said == (not own, not own)
    assert (HEAD in read_tensors(out)) == own
    saved = save_checkpoint(
        load_model(out), Checkpoint.open(source), tmp_path / "saved", out.provenance
    )
    assert (HEAD in read_tensors(saved)) == own
    assert saved.config["text_config"]["tie_word_embeddings"] is not own
    if own:
        np.testing.assert_array_equal(read_tensors(saved)[HEAD], tensors[HEAD])


def test_special_tokens_of_any_form_become_those_of_all_versions(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(composed["llama"].path, source)
    record = json.loads((source / "tokenizer_config.json").read_text())
    record |= {"extra_special_tokens": [{"content": "<a>", "special": True}, "<b>"]}
    for more in (None, ["<b>", {"content": "<c>"}]):
        record["additional_special_tokens"] = more
        (source / "tokenizer_config.json").write_text(json.dumps(record))
        out = rewrite(Checkpoint.open(source), tmp_path / f"out-{more is None}").path
        written = json.loads((out / "tokenizer_config.json").read_text())
        kept = ["<b>", "<c>"] if more else []
        assert set(written["additional_special_tokens"]) == {"<a>", "<b>", *kept}
        check_tokenizer(out)


def test_what_is_left_out_is_told(
    composed: dict[str, Checkpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    shutil.copytree(composed["llama"].path, source)
    tensors = dict(read_tensors(composed["llama"]))
    write_tensors(source, {**tensors, f"{BODY}layers.0.self_attn.q_norm.weight": np.ones(8)})
    rewrite(Checkpoint.open(source), tmp_path / "out")
    assert "1 tensors are left out" in caplog.text and "q_norm" in caplog.text
    caplog.clear()
    write_tensors(
        source, {**tensors, "vision_tower.vision_model.embeddings.position_ids": np.arange(5)}
    )
    rewrite(Checkpoint.open(source), tmp_path / "again")
    assert not caplog.text


def test_the_same_weights_are_not_their_own_parent(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    out = rewrite(composed["llama"], tmp_path / "out")
    assert out.sha256 == composed["llama"].sha256
    assert out.provenance.parents == composed["llama"].provenance.parents


def test_a_model_trained_by_another_template_speaks_it(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    source = composed["llama"]
    other = replace(source.provenance, template="chatml", stage="finetuned")
    saved = save_checkpoint(load_model(source), source, tmp_path / "out", other)
    chat = (saved.path / "chat_template.jinja").read_text()
    assert chat == jinja_template(TEMPLATES["chatml"], saved.tokenizer)


def test_a_checkpoint_that_lost_its_chat_template_gets_it_back(
    composed: dict[str, Checkpoint], tmp_path: Path
) -> None:
    source = shutil.copytree(composed["llama"].path, tmp_path / "dumb")
    chat = (source / "chat_template.jinja").read_text()
    (source / "chat_template.jinja").unlink()
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    call("export", source, "hf", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == chat


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
