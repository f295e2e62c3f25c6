"""NeMo archives that are hostile, broken, or of another computation are refused whole."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from foreign_layouts import (
    Evil,
    Whole,
    megatron_state,
    nemo_config,
    saved,
    taken,
    write_nemo,
    write_tar,
)

from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.importing.door import import_checkpoint

PROJECTOR = "model.embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"num_layers": 3}, "num_layers is 3, and the config.json of --language says 2"),
        ({"rotary_base": 10000}, "rotary_base is 10000, and .* says 5000"),
        ({"rotary_percentage": 0.5}, "rotary_percentage is 0.5"),
        ({"layernorm_epsilon": 1e-5}, "layernorm_epsilon is 1e-05"),
        ({"num_query_groups": 4}, "num_query_groups is 4"),
        ({"kv_channels": 16}, "kv_channels is 16"),
        ({"seq_len_interpolation_factor": 4}, "seq_len_interpolation_factor is 4"),
        ({"scale_positional_embedding": True}, "scale_positional_embedding is True"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type is 'alibi'"),
        ({"activation": "gelu"}, "normalization rmsnorm and activation gelu are not those"),
        ({"normalization": "layernorm1p"}, "normalization layernorm1p and activation"),
        ({"bias": True}, "bias is True, which no llama"),
        ({"rotary_interleaved": True}, "rotary_interleaved is True"),
        ({"num_moe_experts": 8}, "num_moe_experts is 8"),
        ({"pipeline_model_parallel_size": 2}, "pipeline_model_parallel_size is 2"),
        ({"tensor_model_parallel_size": 2}, "1 shards of weights, and tensor_model_parallel_size"),
        ({"tensor_model_parallel_size": "two"}, "tensor_model_parallel_size is 'two', no number"),
        ({"num_attention_heads": "four"}, "num_attention_heads is 'four'"),
        ({"mm": {"use_im_start_end": True}}, "use_im_start_end is True: it sets pictures"),
        ({"mm": {"mm_mlp_adapter_type": "mlp_downsample"}}, "its projector is a 'mlp_downsample'"),
        ({"mm": {"vision_encoder": {"from_hf": False}}}, "its tower is Megatron's own CLIP"),
        ({"data": {"media_type": "video"}}, "media_type is 'video': it reads other media"),
        ({"data": {"image_aspect_ratio": "keep"}}, "image_aspect_ratio 'keep'"),
        ({"mm_cfg": None}, "it has no mm_cfg; it is not a NeVA model"),
    ],
)
def test_another_computation_is_refused(
    wholes: dict[str, Whole], tmp_path: Path, config: dict[str, Any], sentence: str
) -> None:
    made = wholes["llama"]
    archive = write_nemo(tmp_path / "neva.nemo", made, **config)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        taken(made, archive, tmp_path / "out" / "ours")
    assert str(archive) in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_language_model_of_another_activation(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made = wholes["llama"]
    archive = write_nemo(tmp_path / "neva.nemo", made)
    other = tmp_path / "other"
    shutil.copytree(made.words, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    with pytest.raises(CheckpointError, match=r"its hidden_act is 'gelu', and .* fast-swiglu"):
        import_checkpoint(archive, tmp_path / "ours", language=str(other))


def test_one_name_with_and_without_its_wrap(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made = wholes["llama"]
    (state,) = megatron_state(made)
    name = next(name for name in state if name.endswith("mm_projector.0.weight"))
    state[name.removeprefix("model.")] = torch.full_like(state[name], 7)
    archive = write_nemo(tmp_path / "neva.nemo", made, [state])
    with pytest.raises(CheckpointError, match="under two names"):
        taken(made, archive, tmp_path / "ours")


def without(name: str) -> Callable[[list[dict[str, Any]]], object]:
    return lambda shards: [shard.pop(name) for shard in shards]


def other(name: str, tensor: torch.Tensor) -> Callable[[list[dict[str, Any]]], object]:
    return lambda shards: shards[-1].update({name: tensor})


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (without("model.decoder.layers.1.mlp.linear_fc2.weight"), "down_proj.weight is missing"),
        (without("model.output_layer.weight"), "lm_head.weight is missing"),
        (without(f"{PROJECTOR}.2.bias"), "a mlp2x_gelu projector has the tensors"),
        (lambda shards: shards.pop(), "1 shards of weights, and tensor_model_parallel_size is 2"),
        (other("model.decoder.new.weight", torch.ones(1)), "hold tensors of other names"),
        (other(f"{PROJECTOR}.0.bias", torch.ones(32)), "different copies of"),
        (
            other("model.decoder.layers.0.self_attention.linear_qkv.weight", torch.ones(30, 32)),
            "which are no 4 heads in 2 groups",
        ),
        (
            other("model.decoder.layers.0.mlp.linear_fc2.weight", torch.ones(31, 24)),
            "do not fit",
        ),
        (
            other("model.embedding.word_embeddings.weight", torch.ones(20, 32)),
            "and the vocabulary of --language has 258",
        ),
        (
            lambda shards: [s.update({"model.lora_kqv_adapter": torch.ones(1)}) for s in shards],
            "are none of a LLaVA that neva knows, first lora_kqv_adapter",
        ),
        (
            lambda shards: [
                s.update({"model.encoder.final_layernorm.weight": torch.ones(32)}) for s in shards
            ],
            "under two names",
        ),
    ],
)
def test_shards_that_are_no_model_are_refused(
    wholes: dict[str, Whole], tmp_path: Path, harm: Callable[[Any], object], sentence: str
) -> None:
    made = wholes["llama"]
    shards = megatron_state(made, 2)
    harm(shards)
    archive = write_nemo(tmp_path / "n.nemo", made, shards, tensor_model_parallel_size=2)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        taken(made, archive, tmp_path / "out" / "ours")
    assert str(archive) in str(refusal.value)
    assert not (tmp_path / "out").exists()


def hostile(change: Callable[[tarfile.TarFile], None]) -> Callable[[Path, Whole], None]:
    def write(file: Path, made: Whole) -> None:
        with tarfile.open(file, "a") as archive:
            change(archive)

    return write


def adding(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Callable[..., None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, target, 4 * (kind == tarfile.REGTYPE)
        archive.addfile(member, io.BytesIO(b"evil"))

    return hostile(add)


def layout(*names: str) -> Callable[[Path, Whole], None]:
    """An archive of other members beside the configuration."""

    def write(file: Path, made: Whole) -> None:
        record = yaml.safe_dump(nemo_config(made)).encode()
        write_tar(file, {"./model_config.yaml": record, **dict.fromkeys(names, b"x")})

    return write


def bomb(file: Path, made: Whole) -> None:
    """A few bytes of gzip that unpack to much."""
    write_tar(file, {"./filler": b"\0" * 2**25}, "w:gz")


def cut(file: Path, made: Whole) -> None:
    file.write_bytes(file.read_bytes()[:-100_000])


def config(text: str) -> Callable[[Path, Whole], None]:
    def write(file: Path, made: Whole) -> None:
        state = saved(megatron_state(made)[0])
        write_tar(file, {"./model_config.yaml": text.encode(), "./model_weights.ckpt": state})

    return write


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (adding("../outside"), "'../outside' leads out of the archive"),
        (adding("/tmp/outside"), "'/tmp/outside' leads out of the archive"),
        (adding("a/../../outside"), "leads out of the archive"),
        (adding("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' is neither file nor folder"),
        (adding("link", tarfile.LNKTYPE, "model_config.yaml"), "'link' is neither file nor"),
        (adding("device", tarfile.CHRTYPE), "'device' is neither file nor folder"),
        (adding("pipe", tarfile.FIFOTYPE), "'pipe' is neither file nor folder"),
        (adding("model_weights.ckpt"), "model_weights.ckpt is there twice"),
        (adding("./model_config.yaml"), "model_config.yaml is there twice"),
        (bomb, "it would unpack to more than a model can be"),
        (cut, "damaged"),
        (lambda file, made: file.write_bytes(b"not a tar"), "not a NeMo archive"),
        (lambda file, made: file.write_bytes(b"\x1f\x8bxx"), "not a NeMo archive"),
        (layout("./model_weights/common.pt"), "distributed checkpoint.*convert_llava_nemo_to_hf"),
        (layout("./tp_rank_00_pp_rank_001/model_weights.ckpt"), "divided by pipeline parallelism"),
        (layout(), "model_weights.ckpt is missing"),
        (layout("./mp_rank_01/model_weights.ckpt"), r"its shards \[1\] are not one model's"),
        (layout("./model_weights.ckpt"), "cannot be read as torch's weights"),
        (lambda file, made: write_tar(file, {"./x": b"x"}), "model_config.yaml is missing"),
        (config("a: [b"), "not YAML"),
        (config("- a"), "no settings in it"),
        (config("a: !!python/object/apply:os.system ['touch ran']"), "not YAML"),
    ],
)
def test_a_hostile_or_broken_archive_is_refused(
    wholes: dict[str, Whole],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path, Whole], object],
    sentence: str,
) -> None:
    made = wholes["llama"]
    monkeypatch.chdir(tmp_path)
    archive = write_nemo(tmp_path / "neva.nemo", made)
    harm(archive, made)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        taken(made, archive, tmp_path / "out" / "ours")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"neva.nemo"}


def test_a_pickle_in_an_archive_is_not_run(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made, mark = wholes["llama"], tmp_path / "ran"
    state = {**megatron_state(made)[0], "evil": Evil(mark)}
    archive = write_nemo(tmp_path / "n.nemo", made, [state])
    with pytest.raises(CheckpointError, match=r"n.nemo, shard 0: it asks for posix.system"):
        taken(made, archive, tmp_path / "ours")
    assert not mark.exists()


def test_what_is_not_neva_1_is_told(wholes: dict[str, Whole], tmp_path: Path) -> None:
    made = wholes["llama"]
    archive = write_nemo(tmp_path / "neva.nemo", made)
    with pytest.raises(CheckpointError, match=r"has no Hugging Face tokenizer.*--language"):
        import_checkpoint(archive, tmp_path / "ours")
    for name in ("weights", "context"):
        (tmp_path / "nemo2" / name).mkdir(parents=True)
    with pytest.raises(CheckpointError, match="a checkpoint of NeMo 2"):
        taken(made, tmp_path / "nemo2", tmp_path / "ours")
    with pytest.raises(CheckpointError, match=r"`neva import .*neva.nemo --language LM -o DIR`"):
        Checkpoint.open(archive)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    with pytest.raises(CheckpointError, match="this is a NeMo archive"):
        Checkpoint.open(tmp_path / "unpacked")
