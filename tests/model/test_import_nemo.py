"""NeMo's archives, imported: Megatron's tensors taken apart to the last bit."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from foreign_layouts import (
    PADDED,
    WORDS,
    Whole,
    megatron_state,
    nemo_config,
    same_answers,
    taken,
    whole,
    write_nemo,
    write_tar,
)

from neva.errors import CheckpointError
from neva.model.importing.door import import_checkpoint
from neva.model.weights import read_weights

PROJECTOR = "model.embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector"


@pytest.mark.parametrize("old", [False, True], ids=["core", "before core"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("family", ["llama", "nemotron"])
def test_an_archive_answers_as_its_parts(
    wholes: dict[str, Whole], tmp_path: Path, family: str, ranks: int, old: bool
) -> None:
    made = wholes[family]
    archive = write_nemo(tmp_path / "neva.nemo", made, megatron_state(made, ranks, old))
    imported = import_checkpoint(archive, tmp_path / "ours", language=str(made.words))
    same_answers(made, imported.checkpoint)
    (note,) = imported.notes
    assert f"of {PADDED} rows of the vocabulary the {WORDS} of --language are taken" in note
    origin = imported.checkpoint.provenance
    assert (origin.template, origin.aspect, origin.projector) == ("v1", "pad", "mlp2x_gelu")
    assert {path.name for path in tmp_path.iterdir()} == {"neva.nemo", "ours"}  # no more is left


def test_each_tensor_is_the_one_it_was(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made = wholes["llama"]
    archive = write_nemo(tmp_path / "neva.nemo", made, megatron_state(made, 2))
    tensors = read_weights(taken(made, archive, tmp_path / "ours").path)
    for name, tensor in made.language.state_dict().items():
        ours = torch.tensor(tensors[f"language_model.{name}"])
        assert torch.equal(ours[: tensor.shape[0]], tensor), name


def test_every_head_has_a_group_of_its_own(clip: Path, tmp_path: Path) -> None:
    """As many groups as heads, which NeMo writes as null."""
    made = whole(tmp_path, clip, num_key_value_heads=4)
    archive = write_nemo(tmp_path / "n.nemo", made, megatron_state(made, 4), num_query_groups=None)
    same_answers(made, taken(made, archive, tmp_path / "ours"))


def test_gzipped_archives_and_unpacked_folders(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made = wholes["llama"]
    archive = write_nemo(tmp_path / "old.nemo", made, megatron_state(made, 2), gzipped=True)
    same_answers(made, taken(made, archive, tmp_path / "first"))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    same_answers(made, taken(made, tmp_path / "unpacked", tmp_path / "second"))


def test_tied_heads_and_half_precision_names(clip: Path, tmp_path: Path) -> None:
    """No output layer, names under `module.`, bfloat16, and a projector's older name."""
    made = whole(tmp_path, clip, dtype=torch.bfloat16, tie_word_embeddings=True)
    (state,) = megatron_state(made)
    state = {
        name.replace("model.", "model.module.", 1).replace(
            "mm_projector_adapter.mm_projector", "mm_linear_adapter.linear"
        ): value.bfloat16() if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }
    archive = write_nemo(tmp_path / "n.nemo", made, [state])
    checkpoint = taken(made, archive, tmp_path / "ours")
    assert checkpoint.dtype == "bfloat16" and checkpoint.config["tie_word_embeddings"] is True
    assert "language_model.lm_head.weight" not in read_weights(checkpoint.path)
    same_answers(made, checkpoint)


def test_a_linear_projector_and_its_stage(clip: Path, tmp_path: Path) -> None:
    """Stage 1's archive has the projector only: NeMo leaves out what it froze."""
    made = whole(tmp_path, clip, kind="linear")
    (state,) = megatron_state(made)
    state = {name: tensor for name, tensor in state.items() if "mm_projector" in name}
    config = {"mm": {"mm_mlp_adapter_type": "linear"}, "data": {"conv_template": "plain"}}
    archive = write_nemo(tmp_path / "n.nemo", made, [state], **config)
    imported = import_checkpoint(archive, tmp_path / "ours", language=str(made.words))
    same_answers(made, imported.checkpoint)
    assert "holds no language model (it was frozen)" in imported.notes[0]
    assert "prompts are written by the template 'v1'" in imported.notes[1]
    assert imported.checkpoint.provenance.projector == "linear"


def test_a_tower_that_was_trained_is_within(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip)
    with torch.no_grad():
        for parameter in made.tower.parameters():
            parameter.add_(0.01)
    (state,) = megatron_state(made)
    place = "model.embedding.word_embeddings.vision_encoder.vision_model."
    for name, tensor in made.tower.state_dict().items():
        state[place + name.removeprefix("vision_model.")] = tensor
    archive = write_nemo(tmp_path / "n.nemo", made, [state])
    same_answers(made, taken(made, archive, tmp_path / "ours"))


def test_nemo_names_the_clip_and_vision_goes_before_it(
    wholes: dict[str, Whole], clip: Path, tmp_path: Path
) -> None:
    made = wholes["llama"]
    vision = {**nemo_config(made)["mm_cfg"]["vision_encoder"], "from_pretrained": "no/such/clip"}
    archive = write_nemo(tmp_path / "n.nemo", made, mm={"vision_encoder": vision})
    with pytest.raises(CheckpointError, match=r"names a CLIP: .*--vision"):
        taken(made, archive, tmp_path / "ours")
    same_answers(made, taken(made, archive, tmp_path / "ours", vision=str(clip)))


@pytest.mark.parametrize(
    ("said", "ours"), [("nvgpt", "nvgpt"), ("llava_llama_2", "llama_2"), ("nv_dpo", "nv_dpo")]
)
def test_the_template_that_it_was_trained_with(
    wholes: dict[str, Whole], tmp_path: Path, said: str, ours: str
) -> None:
    made = wholes["nemotron"]
    archive = write_nemo(tmp_path / "n.nemo", made, data={"conv_template": said})
    assert taken(made, archive, tmp_path / "ours").provenance.template == ours
    assert taken(made, archive, tmp_path / "v0", template="v0").provenance.template == "v0"


def test_other_pictures_than_the_clips_are_told(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made = wholes["llama"]
    archive = write_nemo(
        tmp_path / "neva.nemo",
        made,
        data={"image_token_len": 576},
        mm={"vision_encoder": {"from_hf": True, "crop_size": [336, 336], "patch_dim": 8}},
    )
    names = {"vision": str(made.clip), "language": str(made.words)}
    notes = import_checkpoint(archive, tmp_path / "ours", **names).notes
    told = [note for note in notes if "if it was trained with another CLIP" in note]
    assert ["image_token_len is 576" in note for note in told] == [True, False]
    assert "crop_size is [336, 336]" in told[1]


def test_families_that_nemo_writes_otherwise(clip: Path, tmp_path: Path) -> None:
    made = whole(tmp_path, clip, "qwen2")
    archive = tmp_path / "n.nemo"
    write_tar(archive, {"./model_config.yaml": b"mm_cfg: {}", "./model_weights.ckpt": b""})
    with pytest.raises(CheckpointError, match="a 'qwen2'; NeMo's archives are imported as llama"):
        taken(made, archive, tmp_path / "ours")
    record = json.loads((made.words / "config.json").read_text())
    (made.words / "config.json").write_text(json.dumps({**record, "model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match="a 'gpt2' language model cannot be imported"):
        taken(made, archive, tmp_path / "ours")
