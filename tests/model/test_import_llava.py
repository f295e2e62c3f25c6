"""LLaVA's own folders, imported: the same answers to the last bit, and a sentence for the rest."""

import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_layouts import (
    WORDS,
    Whole,
    llava_config,
    llava_state,
    whole,
    write_llava,
    write_stage1,
)
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from small import write_language
from tokenizers import Tokenizer, models, pre_tokenizers

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling
from neva.errors import CheckpointError
from neva.images import read_image
from neva.model import Checkpoint
from neva.model.importing.door import import_checkpoint
from neva.model.importing.llava import read_llava
from neva.model.importing.pickles import read_pickle
from neva.model.load import load_model
from neva.model.weights import read_weights
from neva.prompts import ask

BEFORE, AFTER = [256, 40, 41], [70, 71, 5]


@pytest.fixture(scope="module")
def made(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole(tmp_path_factory.mktemp("llava"), clip)


def same_answers(made: Whole, checkpoint: Checkpoint, layer: int = -2) -> None:
    """Logits of words, image and words again, to the last bit, by the parts and by the import."""
    model = load_model(checkpoint, attention="sdpa")
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 16, 16, dtype=model.dtype)
    row = BEFORE + [checkpoint.image_token_id] * 4 + AFTER
    with torch.no_grad():
        ours = model(input_ids=torch.tensor([row]), pixel_values=pixels).logits[0]
    theirs = made.logits(BEFORE, pixels, AFTER, layer)
    assert ours.shape[1] > theirs.shape[1] or ours.shape[1] == theirs.shape[1] > WORDS
    assert torch.equal(ours[:, :WORDS], theirs[:, :WORDS])


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("files", [1, 3])
def test_a_whole_model_answers_as_its_parts(
    made: Whole, tmp_path: Path, files: int, pickled: bool
) -> None:
    folder = write_llava(tmp_path / "theirs", made, files, pickled)
    imported = import_checkpoint(folder, tmp_path / "ours")
    same_answers(made, imported.checkpoint)
    assert imported.checkpoint.image_token_id == WORDS  # as in the conversions for transformers
    assert imported.checkpoint.provenance.aspect == "pad"
    (note,) = imported.notes
    assert "the template 'v1', as nothing there says which" in note and "--template" in note


def test_the_mean_of_words_stands_at_the_image_token(made: Whole, tmp_path: Path) -> None:
    imported = import_checkpoint(write_llava(tmp_path / "theirs", made), tmp_path / "ours")
    words = read_weights(imported.checkpoint.path)["language_model.model.embed_tokens.weight"]
    theirs = made.language.get_input_embeddings().weight.detach()
    assert torch.equal(torch.tensor(words[:WORDS]), theirs)
    assert torch.equal(torch.tensor(words[WORDS]), theirs.mean(0))
    config = imported.checkpoint.config
    assert words.shape[0] == WORDS + 1 == config["text_config"]["vocab_size"]
    assert not any("mm_" in name for name in config["text_config"])


def test_rope_and_types_are_carried(clip: Path, tmp_path: Path) -> None:
    """RoPE of the old `rope_scaling`; float16 stays so, and a CLIP in float32 is rounded to it."""
    scaled = {"rope_type": "linear", "rope_theta": 5e3, "factor": 2.0}
    half = whole(tmp_path, clip, dtype=torch.float16, rope_parameters=scaled)
    old = {"rope_theta": 5e3, "rope_scaling": {"type": "linear", "factor": 2.0}}
    folder = write_llava(tmp_path / "theirs", half, **old)
    checkpoint = import_checkpoint(folder, tmp_path / "ours").checkpoint
    assert checkpoint.dtype == "float16"
    assert {a.dtype.name for a in read_weights(checkpoint.path).values()} == {"float16"}
    same_answers(half, checkpoint)


def test_no_number_is_rounded_where_types_are_mixed(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    state = llava_state(made)
    for name in state:
        state[name] = state[name].to(torch.bfloat16 if "mm_projector" in name else torch.float16)
    torch.save(state, folder / "pytorch_model.bin")
    checkpoint = import_checkpoint(folder, tmp_path / "ours").checkpoint
    assert checkpoint.dtype == "float32"
    tensors = read_weights(checkpoint.path)
    ours = torch.tensor(tensors["multi_modal_projector.linear_1.weight"])
    assert torch.equal(ours, state["model.mm_projector.0.weight"].float())


@pytest.mark.parametrize("said", ["linear", None])
def test_a_linear_projector_of_version_1(clip: Path, tmp_path: Path, said: str | None) -> None:
    made = whole(tmp_path, clip, kind="linear")
    config = {"mm_projector_type": said, "image_aspect_ratio": "square"}
    folder = write_llava(tmp_path / "theirs", made, **config)
    checkpoint = import_checkpoint(folder, tmp_path / "ours", template="v0").checkpoint
    same_answers(made, checkpoint)
    origin = checkpoint.provenance
    assert (origin.projector, origin.aspect, origin.template) == ("linear", "square", "v0")


def test_the_layer_that_is_projected(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made, mm_vision_select_layer=-1)
    same_answers(made, import_checkpoint(folder, tmp_path / "ours").checkpoint, -1)


def test_a_tower_within_goes_before_the_one_named(clip: Path, made: Whole, tmp_path: Path) -> None:
    trained = whole(tmp_path, clip)
    with torch.no_grad():
        for parameter in trained.tower.parameters():
            parameter.add_(0.01)
    folder = write_llava(tmp_path / "theirs", trained, tower=True)
    bare = tmp_path / "bare"
    bare.mkdir()  # of the CLIP named its configuration is enough
    (bare / "config.json").write_text((clip / "config.json").read_text())
    imported = import_checkpoint(folder, tmp_path / "ours", vision=str(bare))
    same_answers(trained, imported.checkpoint)
    assert len(imported.checkpoint.provenance.parents) == 1


def test_vision_goes_before_the_name_and_pickles_of_a_clip_are_read(
    clip: Path, made: Whole, tmp_path: Path
) -> None:
    old = tmp_path / "clip"
    old.mkdir()
    (old / "config.json").write_text((clip / "config.json").read_text())
    inner = {n.removeprefix("vision_model."): t for n, t in made.tower.state_dict().items()}
    state = {f"vision_model.{name}": tensor for name, tensor in inner.items()}
    state |= {"text_model.x": torch.ones(1), "logit_scale": torch.ones(())}
    torch.save(state, old / "pytorch_model.bin")
    folder = write_llava(tmp_path / "theirs", made, mm_vision_tower="no/such/place")
    with pytest.raises(CheckpointError, match=r"names a CLIP: .*--vision"):
        import_checkpoint(folder, tmp_path / "ours")
    same_answers(made, import_checkpoint(folder, tmp_path / "ours", str(old)).checkpoint)


def test_tied_heads(clip: Path, tmp_path: Path) -> None:
    """A head that is the embedding is written once, whether the source has it twice or once."""
    made = whole(tmp_path, clip, tie_word_embeddings=True)
    twice = write_llava(tmp_path / "twice", made)
    once = write_llava(tmp_path / "once", made)
    state = llava_state(made)
    del state["lm_head.weight"]
    torch.save(state, once / "pytorch_model.bin")
    for folder in (twice, once):
        checkpoint = import_checkpoint(folder, tmp_path / f"ours-{folder.name}").checkpoint
        assert "language_model.lm_head.weight" not in read_weights(checkpoint.path)
        same_answers(made, checkpoint)


def test_mistral_below(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip, "mistral")
    folder = write_llava(tmp_path / "theirs", made, model_type="llava_mistral")
    checkpoint = import_checkpoint(folder, tmp_path / "ours", template="mistral").checkpoint
    assert checkpoint.config["text_config"]["model_type"] == "mistral"
    same_answers(made, checkpoint)


def test_a_projector_of_stage_1_on_its_language_model(made: Whole, tmp_path: Path) -> None:
    folder = write_stage1(tmp_path / "stage1", made, tune_mm_mlp_adapter=True)
    with pytest.raises(CheckpointError, match=r"holds no language model.*--language"):
        import_checkpoint(folder, tmp_path / "ours")
    imported = import_checkpoint(folder, tmp_path / "ours", language=str(made.words))
    same_answers(made, imported.checkpoint)
    assert "which language model it was trained with" in imported.notes[0]
    assert len(imported.checkpoint.provenance.parents) == 3


def test_another_language_model_than_it_was_trained_with(made: Whole, tmp_path: Path) -> None:
    folder = write_stage1(tmp_path / "stage1", made)
    other = write_language(tmp_path / "other", "llama", rms_norm_eps=1e-5)
    with pytest.raises(CheckpointError, match=r"its rms_norm_eps is 1e-05.*: it is not the"):
        import_checkpoint(folder, tmp_path / "ours", language=str(other))


def with_lora(made: Whole, folder: Path, **settings: Any) -> Any:
    """A LoRA folder as LLaVA's train.py leaves it; returns peft's own merge of it."""
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    shape = LoraConfig(r=3, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM")
    torch.manual_seed(5)
    wrapped = get_peft_model(made.language, shape)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    wrapped.save_pretrained(folder, safe_serialization=True)
    (folder / "config.json").write_text(json.dumps(llava_config(made)))
    others = {
        f"base_model.model.model.mm_projector.{n}": t
        for n, t in made.projector.state_dict().items()
    }
    torch.save(others, folder / "non_lora_trainables.bin")
    record = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**record, **settings}))
    return wrapped


def test_a_lora_folder_is_merged_as_peft_does(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip)
    wrapped = with_lora(made, tmp_path / "lora")
    imported = import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))
    merged = wrapped.merge_and_unload().state_dict()
    tensors = read_weights(imported.checkpoint.path)
    before = load_file(made.words / "model.safetensors")
    moved = 0
    for name, tensor in merged.items():
        if name.startswith("model.layers."):
            ours = torch.tensor(tensors[f"language_model.{name}"])
            torch.testing.assert_close(ours, tensor, atol=1e-6, rtol=0)
            moved += not torch.equal(ours, before[name])
    assert moved == 10


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 4}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"alora_invocation_tokens": [70, 71]},
        {"a_switch_of_tomorrow": True},
    ],
)
def test_loras_of_another_sum_are_refused(
    clip: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora", **settings)
    with pytest.raises(CheckpointError, match="neva merges plain LoRA only"):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 64}, "is not of rank 64"),
        ({"r": True}, "not two numbers"),
        ({"lora_alpha": math.nan}, "not two numbers"),
        ({"peft_type": None}, "peft_type is None, and neva merges plain LoRA only"),
    ],
)
def test_loras_whose_numbers_are_wrong_are_refused(
    clip: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora", **settings)
    with pytest.raises(CheckpointError, match=words):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


@pytest.mark.parametrize("shape", [(), (32,)])
def test_halves_that_are_no_matrices_are_refused(
    clip: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_model.safetensors"
    save_file({name: torch.ones(shape) for name in load_file(file)}, file)
    with pytest.raises(CheckpointError, match="does not fit its shape"):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


def test_a_lora_folder_that_lost_its_projector(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip)
    with_lora(made, tmp_path / "lora")
    (tmp_path / "lora" / "non_lora_trainables.bin").unlink()
    with pytest.raises(CheckpointError, match=r"non_lora_trainables.bin is missing"):
        import_checkpoint(tmp_path / "lora", tmp_path / "ours", language=str(made.words))


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_the_engines_open_it(made: Whole, tmp_path: Path, name: str) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    checkpoint = import_checkpoint(folder, tmp_path / "ours").checkpoint
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    request = Request(ask("What?"), (read_image(tmp_path / "red.png"),), Sampling(0.0, 1.0, 6))
    engine = open_engine(checkpoint, name, "float32" if name == "torch" else "fp32")
    try:
        (stream,) = engine.generate([request])
        chunks = list(stream)
    finally:
        engine.close()
    assert chunks[-1].finish in ("stop", "length")


# What is refused


def say(**changes: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        record = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**record, **changes}))

    return write


def state_of(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        change(state)
        torch.save(state, folder / "pytorch_model.bin")

    return write


def put(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def squeezed(folder: Path) -> None:
    """The same zip, compressed."""
    with zipfile.ZipFile(folder / "pytorch_model.bin") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def cut(folder: Path) -> None:
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:4000])


def outside(folder: Path) -> None:
    (folder / "pytorch_model.bin").unlink()
    places = {"lm_head.weight": "../pytorch_model.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


def lost_shard(folder: Path) -> None:
    (folder / "pytorch_model.bin").unlink()
    places = {"lm_head.weight": "pytorch_model-1.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (say(model_type="llava_mpt"), "a 'llava_mpt'; neva imports llava"),
        (say(mm_use_im_start_end=True), "mm_use_im_start_end is True: it sets pictures between"),
        (say(mm_vision_select_feature="cls_patch"), "it projects the class token too"),
        (say(mm_patch_merge_type="spatial_unpad"), "it lays pictures out in tiles"),
        (say(mm_resampler_type="spatial_pool"), "it has a resampler"),
        (say(s2=True), "it looks at several sizes"),
        (say(quantization_config={"bits": 4}), "its weights are quantised"),
        (say(image_aspect_ratio="anyres"), "image_aspect_ratio 'anyres'; neva takes pad and"),
        (say(mm_projector_type="mlp3x_gelu"), "its projector is a 'mlp3x_gelu'; neva holds these"),
        (say(mm_projector_type="linear"), "a linear projector has the tensors bias, weight, and"),
        (say(mm_vision_select_layer="last"), "mm_vision_select_layer is no number"),
        (say(mm_vision_select_layer=-9), "its vision tower has no layer -9"),
        (say(mm_vision_tower=None), "does not say which CLIP it sees with; give the CLIP"),
        (say(hidden_size="wide"), "config.json: no model can be so"),
        (say(num_attention_heads=0), "config.json: no model can be so"),
        (say(mm_vision_tower=["openai/clip"]), "does not say which CLIP it sees with"),
        (say(intermediate_size=40), r"has shape \(48, 32\), but the configuration asks for \(40"),
        (say(num_hidden_layers=1), "the configuration asks for no such tensor"),
        (say(num_hidden_layers=3), r"layers.2.*is missing"),
        (state_of(lambda s: s.pop(f"{Q}.weight")), "q_proj.weight is missing"),
        (state_of(lambda s: s.update({f"{Q}.bias": torch.ones(32)})), "asks for no such tensor"),
        (state_of(lambda s: s.update({"model.image_newline": torch.ones(32)})), "image_newline"),
        (state_of(lambda s: s.update({"step": 5})), "'step' is a int, not a tensor"),
        (
            state_of(lambda s: s.update({f"{Q}.weight": torch.ones(32, 32, dtype=torch.int8)})),
            "holds int8, which is no type of weights",
        ),
        (
            state_of(lambda s: s.update({f"{Q}.weight": torch.ones(1, 1).expand(32, 32)})),
            "is larger than its data",
        ),
        (put("pytorch_model.bin", b"garbage"), "cannot be read as torch's weights"),
        (put("pytorch_model.bin", b""), "cannot be read as torch's weights"),
        (cut, "cannot be read as torch's weights"),
        (squeezed, "its contents are compressed"),
        (outside, "not an index of weights"),
        (lost_shard, "pytorch_model-1.bin is named in pytorch_model.bin.index.json but not there"),
        (lambda folder: (folder / "pytorch_model.bin").unlink(), "it has no weights"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    ],
)
def test_an_import_is_refused_with_one_sentence_and_leaves_nothing(
    made: Whole, tmp_path: Path, harm: Callable[[Path], object], sentence: str
) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    harm(folder)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        import_checkpoint(folder, tmp_path / "out" / "ours")
    assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_what_needs_no_import_is_told(made: Whole, clip: Path, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    import_checkpoint(folder, tmp_path / "ours")
    with pytest.raises(CheckpointError, match="a Hugging Face LLaVA needs no import"):
        import_checkpoint(tmp_path / "ours", tmp_path / "again")
    with pytest.raises(CheckpointError, match="already exists"):
        import_checkpoint(folder, tmp_path / "ours")
    with pytest.raises(CheckpointError, match="no such file or directory"):
        import_checkpoint(tmp_path / "nowhere", tmp_path / "again")
    with pytest.raises(CheckpointError, match="no template 'v9'"):
        import_checkpoint(folder, tmp_path / "again", template="v9")
    with pytest.raises(CheckpointError, match="archive nor a folder"):
        import_checkpoint(folder / "config.json", tmp_path / "again")
    with pytest.raises(CheckpointError, match=r"`neva import .*theirs -o DIR`"):
        Checkpoint.open(folder)


class Evil:
    """What a hostile pickle holds: a call that leaves a mark where it runs."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_code_does_not(made: Whole, tmp_path: Path, new: bool) -> None:
    """In torch's zip of today and in its older form; as a whole model and as stage 1."""
    for writer, name in ((write_llava, "pytorch_model.bin"), (write_stage1, "mm_projector.bin")):
        folder = writer(tmp_path / name, made)
        mark = tmp_path / "ran"
        state = {**llava_state(made), "evil": Evil(mark)}
        torch.save(state, folder / name, _use_new_zipfile_serialization=new)
        with pytest.raises(CheckpointError, match=r"asks for posix.system.*could run code"):
            import_checkpoint(folder, tmp_path / "ours", language=str(made.words))
        assert not mark.exists() and not (tmp_path / "ours").exists()
        torch.load(folder / name, weights_only=False)  # it would have: the test can fail
        assert mark.exists()
        mark.unlink()


def test_weights_of_torch_before_16_are_read(made: Whole, tmp_path: Path) -> None:
    state = llava_state(made)
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    found = read_pickle(tmp_path / "old.bin")
    assert set(found) == set(state)
    assert all(torch.equal(found[name].read(), tensor) for name, tensor in state.items())


def test_text_behind_a_picture_begins_as_a_text(made: Whole, tmp_path: Path) -> None:
    """LLaVA tokenises it apart, and sentencepiece sets its space before every text."""
    folder = write_llava(tmp_path / "theirs", made)
    letters = {letter: i for i, letter in enumerate("▁\nabcdefghijklmnopqrstuvwxyz:UABSERNTI?")}
    plain = Tokenizer(models.BPE(letters, []))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    plain.add_special_tokens(["<s>", "</s>"])
    plain.save(str(folder / "tokenizer.json"))
    ours = import_checkpoint(folder, tmp_path / "ours", template="v1").checkpoint.tokenizer
    chunks = [plain.encode(text).tokens for text in ("USER: ", "\nan ant? ASSISTANT:")]
    expected = [*chunks[0], "<image>", *chunks[1]]
    assert ours.encode("USER: <image>\nan ant? ASSISTANT:").tokens == expected
    assert expected[expected.index("<image>") + 1 :][:2] == ["▁", "\n"]


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="Linux tells what is mapped")
def test_nothing_is_read_before_it_is_written(made: Whole, tmp_path: Path) -> None:
    """Weights in the new form are mapped: what was found lies in no memory of ours."""
    folder = write_llava(tmp_path / "theirs", made)
    found = read_llava(folder, None, None)
    tensor = found.tensors["language_model.model.layers.0.mlp.up_proj.weight"].read()
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [([int(end, 16) for end in line[0].split("-")], line[-1]) for line in lines]
    (place,) = (file for (start, stop), file in spans if start <= tensor.data_ptr() < stop)
    assert place == str(folder / "pytorch_model.bin")


def test_tokens_without_rows_are_told(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<im_patch>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    imported = import_checkpoint(folder, tmp_path / "ours", template="v1")
    (note,) = imported.notes
    assert "1 tokens of the tokenizer have no row in the word embedding, first '<im_patch>'" in note
    assert imported.checkpoint.image_token_id == WORDS + 1
    same_answers(made, imported.checkpoint)


def test_a_hub_name_is_found_in_the_cache(
    made: Whole, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network: a cache as the hub's client leaves it."""
    folder = write_llava(tmp_path / "theirs", made, 2, mm_vision_tower="openai/tiny")
    hub = tmp_path / "hub"
    for name, files in (("liuhaotian/tiny", folder), ("openai/tiny", clip)):
        place = hub / f"models--{name.replace('/', '--')}"
        (place / "snapshots").mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("a" * 40)
        (place / "snapshots" / ("a" * 40)).symlink_to(files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(hub), raising=False)
    imported = import_checkpoint("liuhaotian/tiny", tmp_path / "ours")
    same_answers(made, imported.checkpoint)
    assert imported.checkpoint.provenance.recipe["source"] == "liuhaotian/tiny"
    with pytest.raises(CheckpointError, match="no model of this name can be had"):
        import_checkpoint("liuhaotian/other", tmp_path / "again")


def test_a_tensor_under_two_names_is_refused(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    state = llava_state(made)
    name = next(name for name in state if name.endswith("mm_projector.0.weight"))
    state["mm_projector.0.weight"] = torch.full_like(state[name], 7)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="under two names"):
        import_checkpoint(folder, tmp_path / "ours")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unfreeze_mm_vision_tower": True}, "give the trained one by --vision"),
        ({"max_position_embeddings": 4}, "no room for the 4 of a picture"),
        ({"hidden_act": "foo"}, "transformers cannot build such a model .*foo"),
    ],
)
def test_what_no_engine_could_use_is_refused(
    made: Whole, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    folder = write_llava(tmp_path / "theirs", made, **settings)
    with pytest.raises(CheckpointError, match=words):
        import_checkpoint(folder, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    "settings", [{"hidden_act": "gelu"}, {"tie_word_embeddings": True}], ids=lambda s: next(iter(s))
)
def test_a_base_that_computes_otherwise(
    made: Whole, tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = write_stage1(tmp_path / "stage1", made, **settings)
    with pytest.raises(CheckpointError, match=f"its {next(iter(settings))} is .*: it is not the"):
        import_checkpoint(folder, tmp_path / "ours", language=str(made.words))


def test_numbers_are_not_made_up(made: Whole, clip: Path, tmp_path: Path) -> None:
    state = llava_state(made)
    bare = write_llava(tmp_path / "bare", made)
    words = {name: state[name][:0] for name in state if "embed_tokens" in name or "lm_head" in name}
    torch.save({**state, **words}, bare / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="it is no word embedding"):
        import_checkpoint(bare, tmp_path / "ours")
    halves = write_llava(tmp_path / "halves", made)
    torch.save({name: t.half() for name, t in state.items()}, halves / "pytorch_model.bin")
    large = tmp_path / "large"
    shutil.copytree(clip, large)
    tower = load_file(large / "model.safetensors")
    name = next(name for name in tower if name.endswith("fc1.weight") and "vision" in name)
    tower[name][0, 0] = 1e6
    save_file(tower, large / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"too large for float16"):
        import_checkpoint(halves, tmp_path / "ours", vision=str(large))
