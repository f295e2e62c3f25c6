"""What is no LLaVA that neva holds is refused with one sentence, and leaves nothing."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_layouts import (
    Evil,
    Whole,
    llava_state,
    write_llava,
    write_stage1,
)
from safetensors.torch import load_file, save_file
from small import write_language

from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.importing.door import import_checkpoint

Q = "model.layers.0.self_attn.q_proj"


def test_another_language_model_than_it_was_trained_with(made: Whole, tmp_path: Path) -> None:
    folder = write_stage1(tmp_path / "stage1", made)
    other = write_language(tmp_path / "other", "llama", rms_norm_eps=1e-5)
    with pytest.raises(CheckpointError, match=r"its rms_norm_eps is 1e-05.*: it is not the"):
        import_checkpoint(folder, tmp_path / "ours", language=str(other))


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
