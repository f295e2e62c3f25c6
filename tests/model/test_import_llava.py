"""LLaVA's own folders, imported: the same answers to the last bit."""

from pathlib import Path

import pytest
import torch
from foreign_layouts import (
    WORDS,
    Whole,
    llava_state,
    same_answers,
    whole,
    write_llava,
    write_stage1,
)
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling
from neva.errors import CheckpointError
from neva.images import read_image
from neva.model.importing.door import import_checkpoint
from neva.model.importing.llava import read_llava
from neva.model.importing.pickles import read_pickle
from neva.model.weights import read_weights
from neva.prompts import ask


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
