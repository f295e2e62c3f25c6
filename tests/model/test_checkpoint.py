"""Opening checkpoints without torch: what is read, and what is refused with which sentence."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from neva.errors import CheckpointError
from neva.model import Checkpoint, Provenance, read_tensors, write_tensors
from neva.model.shapes import expected_shapes
from neva.model.weights import sha256_file
from neva.prompts import TEMPLATES, jinja_template

CONFIG: dict[str, Any] = {
    "model_type": "llava",
    "image_token_index": 4,
    "text_config": {
        "model_type": "llama",
        "vocab_size": 5,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "eos_token_id": 2,
    },
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    },
}


def write(folder: Path, rename: Callable[[str], str] = str, **write_options: Any) -> Path:
    """A small whole checkpoint with random weights; returns its folder."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "<image>": 4}
    Tokenizer(WordLevel(words, "<unk>")).save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_pad": True}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    Provenance(stage="composed", template="v1", parents=("ab",)).write(folder)
    random = np.random.default_rng(0)
    tensors = {
        rename(name): random.normal(size=shape).astype(ml_dtypes.bfloat16)
        for name, shape in expected_shapes(CONFIG).items()
    }
    write_tensors(folder, tensors, **write_options)
    return folder


def test_opens_a_whole_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write(tmp_path / "any name"))
    assert checkpoint.provenance == Provenance("composed", "v1", parents=("ab",))
    assert (checkpoint.image_token_id, checkpoint.image_tokens, checkpoint.context) == (4, 4, 32)
    assert checkpoint.sha256 == sha256_file(checkpoint.path / "model.safetensors")
    assert checkpoint.tokenizer.token_to_id("<image>") == checkpoint.image_token_id
    assert checkpoint.template.name == "v1"
    assert checkpoint.stop_ids == (2, 3)


def test_tensors_come_back_as_written_whole_or_in_shards(tmp_path: Path) -> None:
    whole = read_tensors(Checkpoint.open(write(tmp_path / "whole")))
    shards = read_tensors(Checkpoint.open(write(tmp_path / "shards", shard_bytes=500)))
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    assert list(whole) and sorted(whole) == sorted(shards)
    for name in whole:
        assert whole[name].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(whole[name], shards[name])


@pytest.mark.parametrize(
    "prefixes",
    [
        # as transformers 5.23 saves
        {"vision_tower.vision_model.": "vision_tower."},
        # as transformers 4.52 has them in memory
        {
            "vision_tower.": "model.vision_tower.",
            "multi_modal_projector.": "model.multi_modal_projector.",
            "language_model.model.": "model.language_model.",
            "language_model.lm_head.": "lm_head.",
        },
    ],
)
def test_opens_other_namings_of_the_tensors(tmp_path: Path, prefixes: dict[str, str]) -> None:
    def rename(name: str) -> str:
        for ours, theirs in prefixes.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    other = read_tensors(Checkpoint.open(write(tmp_path / "other", rename)))
    assert sorted(other) == sorted(expected_shapes(CONFIG))


def test_a_foreign_checkpoint_says_how_its_template_was_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "foreign")
    (folder / "neva.json").unlink()
    opened = Checkpoint.open(folder).provenance
    assert (opened.stage, opened.template, opened.template_source) == ("foreign", "v1", "default")
    assert Checkpoint.open(folder, template="v0").provenance.template_source == "option"
    (folder / "chat_template.jinja").write_text("{{ '<|im_start|>' }}")
    opened = Checkpoint.open(folder).provenance
    assert (opened.template, opened.template_source) == ("chatml", "likeness")
    for name, template in TEMPLATES.items():
        text = jinja_template(template, Checkpoint.open(folder).tokenizer, "<image>")
        (folder / "chat_template.jinja").write_text(text)
        opened = Checkpoint.open(folder).provenance
        assert opened.template_source == "chat template"
        assert jinja_template(TEMPLATES[opened.template]) == jinja_template(template), name
    (folder / "chat_template.jinja").write_text("{{ '[INST] ' + question + ' [/INST]' }}")
    assert Checkpoint.open(folder).provenance.template == "mistral"
    with pytest.raises(CheckpointError, match="no template 'nonsense'; choose one of: plain"):
        Checkpoint.open(folder, template="nonsense")


def test_an_option_may_not_gainsay_what_is_recorded(tmp_path: Path) -> None:
    folder = write(tmp_path / "ours")
    assert Checkpoint.open(folder, template="v1").template.name == "v1"
    with pytest.raises(CheckpointError, match=r"neva.json says .* 'v1'; leave out --template v0"):
        Checkpoint.open(folder, template="v0")


def test_the_image_processor_may_be_a_part_of_the_processor(tmp_path: Path) -> None:
    folder = write(tmp_path / "parts")
    (folder / "neva.json").unlink()
    record = {"size": {"shortest_edge": 16}, "crop_size": 16, "do_pad": True}
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": record}))
    opened = Checkpoint.open(folder)
    assert (opened.provenance.aspect, opened.pixels.size) == ("pad", 16)


def say(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


def index(place: object) -> Callable[[Path], None]:
    """Weights are where an index says; a copy of them lies outside."""

    def harm(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        text = json.dumps({"weight_map": {"a": place}})
        (folder / "model.safetensors.index.json").write_text(text)

    return harm


def head(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the header of the weights' file."""

    def harm(folder: Path) -> None:
        file = folder / "model.safetensors"
        whole = file.read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])

    return harm


BIAS, OTHER = (f"multi_modal_projector.linear_{n}.bias" for n in (1, 2))


def lose(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def widen(folder: Path) -> None:
    wide = {**CONFIG, "text_config": {**CONFIG["text_config"], "intermediate_size": 24}}
    (folder / "config.json").write_text(json.dumps(wide))


def deepen(folder: Path) -> None:
    deep = {**CONFIG, "text_config": {**CONFIG["text_config"], "num_hidden_layers": 2}}
    (folder / "config.json").write_text(json.dumps(deep))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lose("config.json"), "config.json is missing"),
        (lose("tokenizer.json"), "tokenizer.json is missing"),
        (lose("preprocessor_config.json"), "preprocessor_config.json is missing"),
        (lose("model.safetensors"), "there is no model.safetensors"),
        (put("config.json", "{"), "config.json: not JSON"),
        (put("config.json", '{"model_type": "llama"}'), "neva compose"),
        (put("neva.json", '{"format": 99}'), "format 99"),
        (put("neva.json", '{"format": 1, "stage": "cooked"}'), "stage 'cooked'"),
        (put("model.safetensors", "garbage, not weights"), "not a safetensors file"),
        (cut_weights, "cut short"),
        (say(mm_vision_tower="openai/clip"), "LLaVA's own layout"),
        (say(vision_config={"model_type": "siglip_vision_model"}), "neva takes CLIP only"),
        (say(text_config="llama"), "text_config is no JSON object"),
        (say(quantization_config={"quant_method": "awq"}), "its weights are quantised"),
        (index("../outside.safetensors"), "not an index of weights"),
        (index(5), "not an index of weights"),
        (head(lambda h: h[BIAS].update(data_offsets=[-4, 12])), "impossible numbers"),
        (head(lambda h: h[BIAS].update(shape=[9])), "another size than its shape"),
        (head(lambda h: h[BIAS].update(data_offsets=h[OTHER]["data_offsets"])), "over another"),
        (head(lambda h: h[BIAS].update(dtype="I16")), "holds I16, no floating numbers"),
        (head(lambda h: h.update({f"model.{BIAS}": h.pop(OTHER)})), "is there twice"),
        (widen, r"has shape \(16, 8\), but config.json asks for \(24, 8\)"),
        (deepen, "9 tensors that config.json asks for are missing"),
    ],
)
def test_refuses_with_one_sentence(
    tmp_path: Path, harm: Callable[[Path], object], sentence: str
) -> None:
    folder = write(tmp_path / "harmed")
    harm(folder)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        Checkpoint.open(folder)
    assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_refuses_a_lost_shard_and_a_lost_directory(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", shard_bytes=500)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name} is named"):
        Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match="no such directory"):
        Checkpoint.open(tmp_path / "nowhere")


def test_needs_no_torch() -> None:
    code = (
        "import sys, neva.model; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
