"""Composed checkpoints: whole, the same numbers as their parts, and readable by others."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from small import LANGUAGES, VOCABULARY, write_clip, write_language
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    CLIPModel,
    LlavaForConditionalGeneration,
    OPTConfig,
)

from neva.errors import CheckpointError
from neva.model import Checkpoint, read_tensors
from neva.model.compose import compose
from neva.model.keys import BODY, HEAD, PROJECTOR, VISION
from neva.model.weights import sha256_file
from neva.train.shape import Shape

IDS = torch.tensor([[256, 10, 20, 30, 40, 50]])


@pytest.mark.parametrize("family", LANGUAGES)
def test_text_alone_gives_the_language_models_own_logits(
    family: str, composed: dict[str, Checkpoint], languages: dict[str, Path]
) -> None:
    ours, report = LlavaForConditionalGeneration.from_pretrained(
        composed[family].path, output_loading_info=True
    )
    assert not any(report[kind] for kind in report if kind.endswith("keys"))
    theirs = AutoModelForCausalLM.from_pretrained(languages[family])
    with torch.no_grad():
        expected, found = theirs(IDS).logits, ours(input_ids=IDS).logits
    kept = torch.arange(VOCABULARY) != composed[family].image_token_id
    torch.testing.assert_close(found[..., kept], expected[..., kept], rtol=0, atol=1e-5)
    assert expected.std() > 0.1  # not all the same


@pytest.mark.parametrize("family", LANGUAGES)
def test_an_image_reaches_the_language_model(family: str, composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed[family]
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint.path)
    ids = torch.tensor([[256, *[checkpoint.image_token_id] * checkpoint.image_tokens, 10, 20]])
    with torch.no_grad():
        one, other = (
            model(input_ids=ids, pixel_values=torch.randn(1, 3, 16, 16)).logits[0, -1]
            for _ in range(2)
        )
    assert not torch.allclose(one, other)
    assert one[checkpoint.image_token_id] < one.max()


def test_the_tower_is_the_clips_own(composed: dict[str, Checkpoint], clip: Path) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(composed["llama"].path)
    whole = CLIPModel.from_pretrained(clip)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found = model.model.vision_tower(pixels).last_hidden_state
        expected = whole.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_projected_features_are_as_large_as_words(composed: dict[str, Checkpoint]) -> None:
    for checkpoint in composed.values():
        model = LlavaForConditionalGeneration.from_pretrained(checkpoint.path)
        words = model.get_input_embeddings().weight.pow(2).mean().sqrt()
        with torch.no_grad():
            features = model.model.get_image_features(torch.randn(4, 3, 16, 16)).pooler_output
        size = torch.stack(tuple(features)).pow(2).mean().sqrt()
        assert 0.5 < size / words < 2


def test_a_linear_projector_is_one_linear_map(
    clip: Path, languages: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = compose(clip, languages["gpt2"], "linear", tmp_path / "linear", dtype="bfloat16")
    projector = LlavaForConditionalGeneration.from_pretrained(
        checkpoint.path
    ).model.multi_modal_projector
    features = torch.randn(3, 24, dtype=torch.bfloat16)
    torch.testing.assert_close(projector(features), projector.linear_1(features), rtol=0, atol=0)


def test_a_projector_reads_several_layers_side_by_side(
    clip: Path, languages: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = compose(
        clip, languages["llama"], "mlp2x_gelu", tmp_path / "c", feature_layer=[1, -2]
    )
    model, report = LlavaForConditionalGeneration.from_pretrained(
        checkpoint.path, output_loading_info=True
    )
    assert not any(report[kind] for kind in report if kind.endswith("keys"))
    projector = model.model.multi_modal_projector
    assert projector.linear_1.weight.shape[1] == 2 * 24
    counted = Shape.of_config(checkpoint.config)
    assert counted.projector_parameters == sum(p.numel() for p in projector.parameters())
    assert (counted.vision.skipped, counted.vision.read) == (1, 2)
    pixels = torch.randn(1, 3, 16, 16, dtype=model.dtype)
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features = torch.cat([states[1], states[-2]], dim=-1)[:, 1:]
    found = model.model.get_image_features(pixel_values=pixels).pooler_output[0]
    torch.testing.assert_close(found, projector(features)[0])


def test_names_on_disk_are_those_that_every_version_loads(composed: dict[str, Checkpoint]) -> None:
    for family, checkpoint in composed.items():
        with safe_open(checkpoint.path / "model.safetensors", "np") as file:
            names = set(file.keys())
        assert all(name.startswith((VISION, PROJECTOR, BODY)) or name == HEAD for name in names)
        assert "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight" in names
        assert (HEAD in names) == (family != "llama")  # the tied one


def test_older_versions_find_rope_by_its_older_names(composed: dict[str, Checkpoint]) -> None:
    for family in ("llama", "nemotron", "mistral", "qwen2"):
        text = composed[family].config["text_config"]
        assert text["rope_theta"] == text["rope_parameters"]["rope_theta"] == 5e3
    assert composed["nemotron"].config["text_config"]["partial_rotary_factor"] == 0.5
    neox = composed["gpt_neox"].config["text_config"]
    assert (neox["rotary_emb_base"], neox["rotary_pct"]) == (5e3, 0.5)


@pytest.mark.parametrize("aspect", ["pad", "square"])
def test_transformers_processor_gives_our_ids_and_pixels(
    aspect: str, clip: Path, languages: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = compose(clip, languages["llama"], "mlp2x_gelu", tmp_path / "c", aspect=aspect)
    processor = AutoProcessor.from_pretrained(checkpoint.path)
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (40, 24, 3), dtype=np.uint8), "RGB"
    )
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}
    text = processor.apply_chat_template([turn], add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")
    assert int((inputs["input_ids"] == checkpoint.image_token_id).sum()) == checkpoint.image_tokens
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    assert text.endswith("Which? ASSISTANT:")


def test_answers_end_at_every_stop_and_hold_no_image(composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed["llama"]
    generation = json.loads((checkpoint.path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [257] == list(checkpoint.stop_ids)
    assert generation["suppress_tokens"] == [checkpoint.image_token_id]


def test_the_vocabulary_grows_only_by_need(composed: dict[str, Checkpoint]) -> None:
    checkpoint = composed["llama"]
    assert checkpoint.image_token_id == 258  # the tokenizer's next; its row was spare
    rows = read_tensors(checkpoint)[BODY + "embed_tokens.weight"].shape[0]
    assert rows == VOCABULARY == checkpoint.config["text_config"]["vocab_size"]


def test_provenance_names_the_parts(
    composed: dict[str, Checkpoint], clip: Path, languages: dict[str, Path]
) -> None:
    made = composed["mistral"].provenance
    parts = (clip / "model.safetensors", languages["mistral"] / "model.safetensors")
    assert made.parents == tuple(sha256_file(part) for part in parts)
    assert made.recipe == {"vision": "clip", "language": "mistral", "seed": 0}


def test_a_new_row_is_the_mean_of_the_old(clip: Path, tmp_path: Path) -> None:
    tight = write_language(tmp_path / "tight", "mistral", vocab_size=258)
    checkpoint = compose(clip, tight, "mlp2x_gelu", tmp_path / "out", dtype="float32")
    for name in (BODY + "embed_tokens.weight", HEAD):
        rows = read_tensors(checkpoint)[name]
        assert rows.shape[0] == 259
        np.testing.assert_allclose(rows[258], rows[:258].mean(0), atol=1e-6)


def test_an_image_token_may_be_the_first(clip: Path, tmp_path: Path) -> None:
    first = write_language(tmp_path / "first", "mistral")
    record = json.loads((first / "tokenizer.json").read_text())
    words = record["model"]["vocab"]
    lost = next(word for word, number in words.items() if number == 0)
    del words[lost]
    record["added_tokens"].append({**record["added_tokens"][0], "id": 0, "content": "<image>"})
    words["<image>"] = 0
    (first / "tokenizer.json").write_text(json.dumps(record))
    checkpoint = compose(clip, first, "mlp2x_gelu", tmp_path / "out", dtype="float32")
    assert checkpoint.image_token_id == 0
    rows = read_tensors(checkpoint)[HEAD]
    np.testing.assert_allclose(rows[0], rows[1:].mean(0), atol=1e-6)


def test_a_models_own_python_is_not_run(
    clip: Path, languages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil, ran = tmp_path / "evil", tmp_path / "ran"
    evil.mkdir()
    classes = {"AutoConfig": "conf.EvilConfig", "AutoModelForCausalLM": "conf.EvilConfig"}
    (evil / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": classes}))
    (evil / "conf.py").write_text(f"open({str(ran)!r}, 'w')\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))  # whoever would say yes when asked
    for parts in ((evil, languages["llama"]), (clip, evil)):
        with pytest.raises(CheckpointError, match="Python of its own, which neva never runs"):
            compose(*parts, "linear", tmp_path / "out")
    assert not ran.exists()


def test_a_clip_of_pickles_is_told_the_way(languages: dict[str, Path], tmp_path: Path) -> None:
    old = write_clip(tmp_path / "old")
    (old / "model.safetensors").unlink()
    torch.save({}, old / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="use_safetensors=False"):
        compose(old, languages["llama"], "linear", tmp_path / "out")


def test_same_seed_same_weights(clip: Path, languages: dict[str, Path], tmp_path: Path) -> None:
    one, again, other = (
        compose(clip, languages["llama"], "mlp2x_gelu", tmp_path / str(i), seed=seed).sha256
        for i, seed in enumerate((0, 0, 1))
    )
    assert one == again != other


def test_refuses_with_one_sentence_and_leaves_nothing(
    clip: Path, languages: dict[str, Path], tmp_path: Path
) -> None:
    opt = tmp_path / "opt"
    AutoModelForCausalLM.from_config(
        OPTConfig(hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(opt)
    llama = languages["llama"]
    out = tmp_path / "outs" / "out"
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    for arguments, sentence in (
        ((clip, opt, "linear", out), "'opt' language model cannot be composed; .* llama, nemotron"),
        ((llama, llama, "linear", out), "'llama' model is not a vision tower"),
        ((clip, tmp_path / "nothing", "linear", out), "no such file or directory"),
        ((clip, tmp_path / "no.gguf", "linear", out), "no such file or directory"),
        ((clip, llama, "mlp9x", out), "no projector 'mlp9x'; choose one of: mlp2x_gelu, linear"),
        ((clip, llama, "linear", out, "v9"), "no template 'v9'; choose one of: plain, v0"),
        ((clip, llama, "linear", out, "v1", -9), "no layer -9"),
        ((clip, llama, "linear", out, "v1", [-1, -9]), "no layer -9"),
        ((clip, llama, "linear", out, "v1", [-1, 3]), "give each layer once"),
        ((clip, llama, "linear", out, "v1", []), "give each layer once"),
        ((clip, llama, "linear", full), "already exists"),
    ):
        with pytest.raises(CheckpointError, match=sentence) as refusal:
            compose(*arguments)
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "outs").exists() and [f.name for f in full.iterdir()] == ["file"]
