"""The export to GGUF, read back with llama.cpp's own reader: every number, entry and refusal.

What llama.cpp makes of the files is in test_gguf_llamacpp.py.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_models as models
import jinja2
import numpy as np
import pytest
from gguf_models import Read, exported, read

from neva.deploy.gguf.gpt import thirds_together
from neva.deploy.gguf.language import pairs_together
from neva.deploy.gguf.vision import FEATURE_LAYER
from neva.model import Checkpoint
from neva.model.checkpoint import read_tensors
from neva.model.tied import is_tied
from neva.nano.base import _halves_together
from neva.prompts import Conversation, ImageSlot, Turn
from neva.prompts.render import render, text_of
from neva.server.content import arranged

FAMILIES = ("llama", "mistral", "qwen2", "nemotron", "gpt_neox", "gpt2")
NAMES = {"llama": "llama", "mistral": "llama", "gpt_neox": "gptneox"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_there(family: str, tmp_path: Path) -> None:
    path = models.composed(tmp_path, family)
    words, eyes = exported(path, tmp_path / "out")
    entries, found = read(words)
    ours = {name: np.asarray(value) for name, value in read_tensors(Checkpoint.open(path)).items()}
    assert entries["general.architecture"] == NAMES.get(family, family)
    body = "language_model.model."
    if family in ("llama", "mistral"):
        for part, heads in (("q", 4), ("k", 2)):
            turned = found[f"blk.1.attn_{part}.weight"]
            kept = ours[f"{body}layers.1.self_attn.{part}_proj.weight"]
            assert not np.array_equal(turned, kept)
            assert np.array_equal(_halves_together(turned, heads), kept)
    if family == "qwen2":
        kept = ours[f"{body}layers.1.self_attn.q_proj.bias"]
        assert np.array_equal(found["blk.1.attn_q.bias"], kept)
    if family == "nemotron":
        kept = ours[f"{body}layers.1.input_layernorm.weight"]
        assert np.allclose(found["blk.1.attn_norm.weight"], kept + 1)
        assert entries["nemotron.rope.dimension_count"] == 4
    if family == "gpt2":
        assert np.array_equal(found["position_embd.weight"], ours[f"{body}wpe.weight"])
        kept = ours[f"{body}h.1.attn.c_attn.weight"]
        assert np.array_equal(found["blk.1.attn_qkv.weight"], kept.T)
    count = len(ours) - 2  # CLIP's last norm, which no LLaVA reads
    _, seen = read(eyes)
    tied = is_tied(Checkpoint.open(path).config, ours)  # gpt2 gets a head of its own all the same
    assert len(found) + len(seen) == count + (tied and family == "gpt2")
    assert ("output.weight" in found) == (not tied or family == "gpt2")
    rest = {name for name in ours if name.endswith(("down_proj.weight", "dense_4h_to_h.weight"))}
    for name in rest:
        index = name.removeprefix(f"{body}layers.").split(".")[0]
        assert np.array_equal(found[f"blk.{index}.ffn_down.weight"], ours[name])


def test_rows_of_rotary_and_joined_matrices() -> None:
    rows = np.arange(2 * 8 * 3).reshape(16, 3)
    assert np.array_equal(_halves_together(pairs_together(rows, 2), 2), rows)
    assert pairs_together(rows, 2)[:, 0].tolist()[:4] == [0, 12, 3, 15]
    joined = np.array(["q0", "k0", "v0", "q1", "k1", "v1"])
    assert thirds_together(joined, 2).tolist() == ["q0", "q1", "k0", "k1", "v0", "v1"]


def test_entries_of_the_language_model(tiny: Path, tmp_path: Path) -> None:
    words, _ = exported(tiny, tmp_path / "out")
    found, tensors = read(words)
    assert found["llama.context_length"] == 512 and found["llama.block_count"] == 2
    assert found["llama.attention.head_count_kv"] == 2 and found["llama.vocab_size"] == 320
    assert found["llama.rope.freq_base"] == 10000.0 and found["llama.rope.dimension_count"] == 16
    assert found["tokenizer.ggml.model"] == "gpt2" and found["tokenizer.ggml.pre"] == "gpt-2"
    assert found["tokenizer.ggml.eos_token_id"] == 2 and not found["tokenizer.ggml.add_bos_token"]
    kinds = found["tokenizer.ggml.token_type"]
    assert kinds[1] == 3 and kinds[4] == 1  # <|im_start|> is special, a letter is not
    image = Checkpoint.open(tiny).image_token_id
    assert found["tokenizer.ggml.suppress_tokens"] == list(range(image, 320))
    assert found["tokenizer.ggml.tokens"][image] == "<image>" and kinds[image] == 5
    assert tensors["token_embd.weight"].shape == (320, 64) and "output.weight" in tensors


def test_several_ids_end_an_answer(changed: Callable[..., Path], tmp_path: Path) -> None:
    path = changed(text_config={"eos_token_id": [0, 1]})
    found, _ = read(exported(path, tmp_path / "out")[0])
    ends = [found[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")]
    assert ends == [2, 0, 1]  # the template's own first


def test_a_sliding_window_ends_the_context(tmp_path: Path) -> None:
    path = models.tiny(tmp_path / "tiny", family="mistral", sliding_window=128)
    found, _ = read(exported(path, tmp_path / "out")[0])
    assert found["llama.context_length"] == 128
    assert "sliding window, 128 tokens" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"llama.rope.scaling.factor": 4.0}),
        ({"rope_type": "linear", "factor": 4.0}, {"llama.rope.scaling.type": "linear"}),
    ],
)
def test_linear_rotary_scaling(
    changed: Callable[..., Path], tmp_path: Path, said: dict[str, Any], wanted: Read
) -> None:
    path = changed(text_config={"rope_parameters": {"rope_theta": 1e4, **said}})
    found, _ = read(exported(path, tmp_path / "out")[0])
    assert wanted.items() <= found.items()


def test_llama_3s_rotary_scaling_is_a_tensor(tmp_path: Path) -> None:
    from tiny_llava import SCALED

    path = models.tiny(tmp_path / "scaled", rope_parameters=SCALED)
    _, tensors = read(exported(path, tmp_path / "out")[0])
    slowed = tensors["rope_freqs.weight"]
    assert slowed.shape == (8,) and slowed[0] == 1 and slowed[-1] == pytest.approx(4)
    assert np.all(np.diff(slowed) >= 0)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_kinds_and_how_near_they_are(tiny: Path, tmp_path: Path, kind: str) -> None:
    words, eyes = exported(tiny, tmp_path / "out", kind)
    found, tensors = read(words)
    assert found["general.file_type"] == {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}[kind]
    kept = np.asarray(read_tensors(Checkpoint.open(tiny))["language_model.lm_head.weight"])
    error = np.abs(tensors["output.weight"] - kept).max() / np.abs(kept).max()
    assert error <= {"f32": 0, "f16": 5e-4, "bf16": 4e-3, "q8_0": 4e-3}[kind]
    assert (kind == "f32") == (error == 0)
    assert eyes.name.endswith("mmproj-f32.gguf" if kind == "f32" else "mmproj-f16.gguf")
    assert np.array_equal(tensors["blk.0.attn_norm.weight"], np.ones(64))


def test_the_tower_and_its_positions(tiny: Path, tmp_path: Path) -> None:
    source = Checkpoint.open(tiny)
    table = read_tensors(source)["vision_tower.vision_model.embeddings.position_embedding.weight"]
    found, last = read(exported(tiny, tmp_path / "last")[1])
    _, first = read(exported(tiny, tmp_path / "first", class_token="first")[1])
    assert np.array_equal(first["v.position_embd.weight"], table)
    assert np.array_equal(last["v.position_embd.weight"], np.concatenate((table[1:], table[:1])))
    assert found[FEATURE_LAYER] == [2] and found["clip.vision.block_count"] == 3
    assert found["clip.projector_type"] == "mlp" and found["clip.vision.image_size"] == 32
    assert not found["clip.use_gelu"] and not found["clip.use_silu"]  # CLIP's quick GELU
    assert found["clip.vision.image_mean"] == pytest.approx(list(source.pixels.mean))
    assert "class token after the patches" in (tmp_path / "last" / "README.md").read_text()


def test_layers_side_by_side_in_any_order(tmp_path: Path) -> None:
    path = models.tiny(tmp_path / "tiny", llava={"vision_feature_layer": [-2, 0, -2]})
    found, tensors = read(exported(path, tmp_path / "out")[1])
    assert found[FEATURE_LAYER] == [0, 2]
    name = "multi_modal_projector.linear_1.weight"
    a, b, c = np.split(np.asarray(read_tensors(Checkpoint.open(path))[name]), 3, axis=1)
    assert np.allclose(tensors["mm.0.weight"], np.concatenate((b, a + c), axis=1))


def test_a_linear_projector_through_gelu(tmp_path: Path) -> None:
    path = models.composed(tmp_path, "llama", projector="linear")
    _, tensors = read(exported(path, tmp_path / "out")[1])
    ours = read_tensors(Checkpoint.open(path))
    seen = np.random.default_rng(0).normal(size=(5, 24))
    weight = np.asarray(ours["multi_modal_projector.linear_1.weight"])
    wanted = seen @ weight.T + np.asarray(ours["multi_modal_projector.linear_1.bias"])
    inner = seen @ tensors["mm.0.weight"].T + tensors["mm.0.bias"]
    gelu = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    assert np.allclose(gelu @ tensors["mm.2.weight"].T + tensors["mm.2.bias"], wanted, atol=1e-6)


MARK = "<__media_xyz__>"
PICTURE, SECOND = ImageSlot(0), ImageSlot(1)


@pytest.mark.parametrize(
    "parts",
    [
        (PICTURE, "What is this?"),
        ("What is this?", PICTURE),
        (PICTURE, SECOND, " Which? \n"),
        ("a", PICTURE, "b"),
        (PICTURE, "a", SECOND, "b"),
        (PICTURE,),
        ("no picture; x__>y",),
        (PICTURE, "code x__>y"),
    ],
)
@pytest.mark.parametrize("template", ["chatml", "v1", "llama_3", "nvgpt", "plain"])
def test_the_chat_template_arranges_as_neva_serve_does(
    tiny: Path, tmp_path: Path, parts: tuple[Any, ...], template: str
) -> None:
    from dataclasses import replace

    from neva.deploy.gguf.chat import gguf_chat_template

    opened = Checkpoint.open(tiny)
    source = replace(opened, provenance=replace(opened.provenance, template=template))
    told = "".join(MARK if isinstance(part, ImageSlot) else part for part in parts)
    environment = jinja2.Environment()
    shown = environment.from_string(gguf_chat_template(source)).render(
        messages=[{"role": "user", "content": told}], add_generation_prompt=True
    )
    turn = Turn("user", arranged(parts))
    assert shown == text_of(render(Conversation((turn,)), source.template, True), MARK)


@pytest.mark.parametrize("kind", models.KINDS)
def test_tokenizers_that_are_known(tmp_path: Path, kind: str) -> None:
    path = models.tiny_with(tmp_path / "tiny", models.tokenizer(kind))
    found, _ = read(exported(path, tmp_path / "out")[0])
    name = "default" if kind.startswith("sentencepiece") else kind
    assert found["tokenizer.ggml.pre"] == name
    begins = kind == "llama-bpe" or kind.startswith("sentencepiece")
    assert found["tokenizer.ggml.add_bos_token"] == begins
    if begins:
        assert found["tokenizer.ggml.bos_token_id"] == 1
    if kind.startswith("sentencepiece"):
        assert found["tokenizer.ggml.model"] == "llama"
        assert found["tokenizer.ggml.add_space_prefix"] == kind.endswith("legacy")
        tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
        assert kinds[tokens.index("<0x0A>")] == 6 and kinds[tokens.index("<unk>")] == 2


def test_the_page_tells_the_commands_and_the_differences(tiny: Path, tmp_path: Path) -> None:
    exported(tiny, tmp_path / "out", "q8_0")
    told = (tmp_path / "out" / "README.md").read_text()
    assert "llama-server -m tiny-q8_0.gguf --mmproj tiny-mmproj-f16.gguf --jinja -c 512" in told
    assert "--temp 0.2 --top-p 0.7" in told and "32 x 32" in told and "GELU" in told
    assert "cropped" in told  # its pictures are no padded ones


def test_torch_is_not_wanted(tiny: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from neva.model import Checkpoint\n"
        "from neva.deploy.gguf.export import write_gguf\n"
        "write_gguf(Checkpoint.open(Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, str(tiny), str(tmp_path / "out")]
    subprocess.run(command, check=True)
