"""Models made of Hugging Face's parts, and the layouts in which others store them.

The writers are the inverse of what `neva import` does, written from LLaVA's and NVIDIA's sources
and not from ours: Megatron's fused matrices are built head by head. What such a model answers is
computed by its parts alone, as LLaVA's own forward does.
"""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from small import write_language
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, CLIPVisionModel

from neva.model import Checkpoint
from neva.model.importing.door import import_checkpoint
from neva.model.load import load_model

WORDS = 258  # of the small tokenizer: the embedding has no row to spare
PADDED = 384
BEFORE, AFTER = [256, 40, 41], [70, 71, 5]


@dataclass(frozen=True)
class Whole:
    """A LLaVA as its parts; `clip` and `words` are their folders."""

    clip: Path
    words: Path
    tower: CLIPVisionModel
    projector: nn.Module
    language: Any

    @torch.no_grad()
    def logits(self, before: list[int], pixels: Tensor, after: list[int], layer: int = -2) -> Any:
        """Of every position, where the image's features stand between two runs of ids."""
        seen = self.tower(pixels, output_hidden_states=True).hidden_states[layer][:, 1:]
        embed = self.language.get_input_embeddings()
        texts = [embed(torch.tensor([ids])) for ids in (before, after)]
        row = torch.cat([texts[0], self.projector(seen), texts[1]], dim=1)
        return self.language(inputs_embeds=row).logits[0]


def whole(
    folder: Path,
    clip: Path,
    family: str = "llama",
    kind: str = "mlp2x_gelu",
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Whole:
    """A random one; its language model is written below `folder`."""
    changes = {"vocab_size": WORDS, "tie_word_embeddings": False, **changes}
    words = write_language(folder / "words", family, **changes)
    torch.manual_seed(3)
    first, second = nn.Linear(24, 32), nn.Linear(32, 32)
    chain = nn.Sequential(first, nn.GELU(), second) if kind == "mlp2x_gelu" else first
    language = AutoModelForCausalLM.from_pretrained(words, dtype=dtype).eval()
    if dtype != torch.float32:
        language.save_pretrained(words)
    tower = CLIPVisionModel.from_pretrained(clip, dtype=dtype).eval()
    return Whole(clip, words, tower, chain.to(dtype), language)


# LLaVA

LLAVA: Mapping[str, Any] = {
    "model_type": "llava",
    "architectures": ["LlavaLlamaForCausalLM"],
    "image_aspect_ratio": "pad",
    "mm_hidden_size": 24,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_resampler_type": None,
    "use_mm_proj": True,
}


def llava_config(made: Whole, **changes: Any) -> dict[str, Any]:
    """LLaVA's config.json: the language model's own, in the words of 2023, and more."""
    own = json.loads((made.words / "config.json").read_text())
    rope = own.pop("rope_parameters")
    own |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    own["torch_dtype"] = own.pop("dtype", "float32")
    return {**own, **LLAVA, "mm_vision_tower": str(made.clip), **changes}


def llava_state(made: Whole, tower: bool = False) -> dict[str, Tensor]:
    """All tensors by LLaVA's names, with the buffers that older versions saved."""
    state = {name: tensor.clone() for name, tensor in made.language.state_dict().items()}
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    state |= {
        f"model.mm_projector.{name}": t.clone() for name, t in made.projector.state_dict().items()
    }
    if tower:
        place = "model.vision_tower.vision_tower.vision_model."
        inner = {n.removeprefix("vision_model."): t for n, t in made.tower.state_dict().items()}
        state |= {place + name: tensor.clone() for name, tensor in inner.items()}
        state[f"{place}embeddings.position_ids"] = torch.arange(5)[None]
    return state


def write_llava(
    folder: Path,
    made: Whole,
    files: int = 1,
    pickled: bool = True,
    tower: bool = False,
    **config: Any,
) -> Path:
    """A whole model: weights in so many files, config.json, tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(llava_config(made, **config)))
    for file in made.words.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    state = llava_state(made, tower)
    stem, end = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names = sorted(state)
    places = {
        name: f"{stem}-{i % files + 1:05}-of-{files:05}.{end}" if files > 1 else f"{stem}.{end}"
        for i, name in enumerate(names)
    }
    for file in set(places.values()):
        part = {name: state[name] for name in names if places[name] == file}
        if pickled:
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file)
    if files > 1:
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def write_stage1(folder: Path, made: Whole, **config: Any) -> Path:
    """A projector alone, as LLaVA's first stage leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(llava_config(made, **config)))
    state = {f"model.mm_projector.{n}": t for n, t in made.projector.state_dict().items()}
    torch.save(state, folder / "mm_projector.bin")
    return folder


# NeMo


def nemo_config(made: Whole, **changes: Any) -> dict[str, Any]:
    """model_config.yaml of the model, as NeMo 1's examples have it."""
    own = made.language.config
    gated = own.model_type == "llama"
    mm = {
        "llm": {"from_pretrained": None, "freeze": False, "model_type": "v1"},
        "vision_encoder": {
            "from_pretrained": str(made.clip),
            "from_hf": True,
            "patch_dim": 8,
            "hidden_size": 24,
            "vision_select_layer": -2,
            "class_token_length": 1,
            "freeze": True,
        },
        "mm_mlp_adapter_type": "mlp2x_gelu",
        "use_im_start_end": False,
    }
    record = {
        "target": "nemo.collections.multimodal.models.multimodal_llm.neva.MegatronNevaModel",
        "mm_cfg": {**mm, **changes.pop("mm", {})},
        "mcore_gpt": True,
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
        "encoder_seq_length": 256,
        "max_position_embeddings": 256,
        "position_embedding_type": "rope",
        "num_layers": own.num_hidden_layers,
        "hidden_size": own.hidden_size,
        "ffn_hidden_size": own.intermediate_size,
        "num_attention_heads": own.num_attention_heads,
        "num_query_groups": own.num_key_value_heads,
        "kv_channels": None,
        "normalization": "rmsnorm" if gated else "layernorm1p",
        "activation": "fast-swiglu" if gated else "squared-relu",
        "layernorm_epsilon": own.rms_norm_eps if gated else own.norm_eps,
        "bias": False,
        "rotary_percentage": 1.0 if gated else 0.5,
        "rotary_base": own.rope_parameters["rope_theta"],
        "share_embeddings_and_output_weights": bool(own.tie_word_embeddings),
        "make_vocab_size_divisible_by": 128,
        "data": {"conv_template": "v1", "image_aspect_ratio": "pad", "image_token_len": 4},
    }
    data = {**record["data"], **changes.pop("data", {})}
    return {**record, "data": data, **changes}


def fused(state: Mapping[str, Tensor], layer: int, heads: int, groups: int) -> Tensor:
    """Query, key and value of a layer as Megatron lays them: head by head, group by group."""
    q, k, v = (state[f"model.layers.{layer}.self_attn.{n}_proj.weight"] for n in "qkv")
    size, per, laid = q.shape[0] // heads, heads // groups, []
    for group in range(groups):
        for head in range(group * per, (group + 1) * per):
            laid.append(q[head * size : (head + 1) * size])
        laid.append(k[group * size : (group + 1) * size])
        laid.append(v[group * size : (group + 1) * size])
    return torch.cat(laid)


def megatron_state(made: Whole, ranks: int = 1, old: bool = False) -> list[dict[str, Any]]:
    """The state of each rank under Megatron-core's names, or under those before it (`old`)."""
    state, own = made.language.state_dict(), made.language.config
    heads, groups = own.num_attention_heads, own.num_key_value_heads
    top = "model.language_model." if old else "model."
    layers = f"{top}encoder.layers." if old else f"{top}decoder.layers."
    shards: list[dict[str, Any]] = [{} for _ in range(ranks)]

    def put(name: str, pieces: list[Tensor]) -> None:
        for shard, piece in zip(shards, pieces, strict=True):
            shard[name] = piece.clone()

    def divided(name: str, tensor: Tensor, dim: int) -> None:
        put(name, list(tensor.chunk(ranks, dim)))

    def copied(name: str, tensor: Tensor) -> None:
        put(name, [tensor] * ranks)

    def padded(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, torch.full((PADDED - len(tensor), tensor.shape[1]), 9.0)])

    words = f"{top}embedding.word_embeddings"
    divided(f"{words}.weight", padded(state["model.embed_tokens.weight"]), 0)
    if not own.tie_word_embeddings:
        divided(f"{top}output_layer.weight", padded(state["lm_head.weight"]), 0)
    for end in ("weight", "bias"):
        if f"model.norm.{end}" in state:
            final = f"{top}{'encoder' if old else 'decoder'}.final_layernorm.{end}"
            copied(final, state[f"model.norm.{end}"])
    for i in range(own.num_hidden_layers):
        theirs, ours = f"model.layers.{i}.", f"{layers}{i}."
        qkv = "query_key_value" if old else "linear_qkv"
        divided(f"{ours}self_attention.{qkv}.weight", fused(state, i, heads, groups), 0)
        dense = "dense" if old else "linear_proj"
        divided(
            f"{ours}self_attention.{dense}.weight", state[f"{theirs}self_attn.o_proj.weight"], 1
        )
        up = state[f"{theirs}mlp.up_proj.weight"].chunk(ranks)
        first = f"{ours}mlp.{'dense_h_to_4h' if old else 'linear_fc1'}"
        if f"{theirs}mlp.gate_proj.weight" in state:  # each rank: its gates, then its ups
            gate = state[f"{theirs}mlp.gate_proj.weight"].chunk(ranks)
            put(f"{first}.weight", [torch.cat(pair) for pair in zip(gate, up, strict=True)])
        else:
            put(f"{first}.weight", list(up))
        second = f"{ours}mlp.{'dense_4h_to_h' if old else 'linear_fc2'}.weight"
        divided(second, state[f"{theirs}mlp.down_proj.weight"], 1)
        for end in ("weight", "bias"):
            if f"{theirs}input_layernorm.{end}" not in state:
                continue
            before, behind = (
                (f"{ours}input_layernorm.{end}", f"{ours}post_attention_layernorm.{end}")
                if old
                else (f"{ours}self_attention.{qkv}.layer_norm_{end}", f"{first}.layer_norm_{end}")
            )
            copied(before, state[f"{theirs}input_layernorm.{end}"])
            copied(behind, state[f"{theirs}post_attention_layernorm.{end}"])
        if not old:
            for shard in shards:
                shard[f"{ours}self_attention.linear_qkv._extra_state"] = io.BytesIO(b"state")
    for name, tensor in made.projector.state_dict().items():
        copied(f"{words}.adapter_layer.mm_projector_adapter.mm_projector.{name}", tensor)
    return shards


def write_nemo(
    file: Path,
    made: Whole,
    shards: list[dict[str, Any]] | None = None,
    gzipped: bool = False,
    **config: Any,
) -> Path:
    """An archive as NeMo's tar of a folder: `./model_config.yaml` and the weights of each rank."""
    states = shards if shards is not None else megatron_state(made)
    record = nemo_config(made, **{"tensor_model_parallel_size": len(states), **config})
    members = {"./model_config.yaml": yaml.safe_dump(record).encode()}
    for rank, state in enumerate(states):
        place = f"./mp_rank_{rank:02}/" if len(states) > 1 else "./"
        members[f"{place}model_weights.ckpt"] = saved(state)
    members["./1234_tokenizer.model"] = b"not read"
    write_tar(file, members, "w:gz" if gzipped else "w")
    return file


def saved(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def write_tar(file: Path, members: Mapping[str, bytes], mode: Any = "w") -> None:
    with tarfile.open(file, mode) as archive:
        folder = tarfile.TarInfo(".")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


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


class Evil:
    """What a hostile pickle holds: a call that leaves a mark where it runs."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def taken(made: Whole, archive: Path, out: Path, **more: Any) -> Checkpoint:
    return import_checkpoint(archive, out, language=str(made.words), **more).checkpoint
