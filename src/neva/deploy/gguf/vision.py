"""CLIP's tower and the projector for llama.cpp: the mmproj file.

llama.cpp's graph of LLaVA, as of every build since May 2025 that was looked at, puts the class
token after the patches, gives token i the position i, and hands on tokens 1 to P: each patch has
its neighbour's position (its issue 25814). `class_token="last"` writes the table of positions
turned by one, so that every token has its own place; what remains is that the projected class token
comes last where the first patch, the picture's upper left corner, is left out. A build that puts
the class token first wants `class_token="first"`: the table as it is.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from neva.deploy.gguf.file import Array, Part, new_file, plain, write_parts
from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.keys import PROJECTOR, VISION
from neva.model.reading import CONFIG
from neva.model.shapes import feature_layers, text_config, vision_config

ClassToken = Literal["last", "first"]
Tensors = Mapping[str, Array]

TOWER = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
TANH = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""What llama.cpp computes as the approximation by tanh, the exact GELU too."""
TOWER_ACTS = (*TANH, "quick_gelu", "silu")
PROJECTOR_ACTS = (*TANH, "linear")
FEATURE_LAYER = "clip.vision.feature_layer"


def check_vision(source: Checkpoint) -> None:
    """CheckpointError for a tower or projector that llama.cpp would compute otherwise."""
    vision = vision_config(source.config)
    act = str(vision.get("hidden_act", "quick_gelu"))
    projector = str(source.config.get("projector_hidden_act", "gelu"))
    strategy = source.config.get("vision_feature_select_strategy", "default")
    wrong = ""
    if act not in TOWER_ACTS:
        wrong = f"the vision tower's activation {act!r}"
    elif projector not in PROJECTOR_ACTS:
        wrong = f"the projector's activation {projector!r}"
    elif strategy != "default":
        wrong = f"the class token among the image's tokens (strategy {strategy!r})"
    elif int(vision.get("num_channels", 3)) != 3:
        wrong = f"pictures of {vision['num_channels']} channels"
    if wrong:
        raise CheckpointError(
            f"{source.path / CONFIG}: llama.cpp does not have {wrong}; serve the checkpoint with "
            "`neva serve`."
        )
    _check_pixels(source)


def _check_pixels(source: Checkpoint) -> None:
    """CheckpointError for a recipe of pixels that is none."""
    rescale, resample = source.pixels.rescale, source.pixels.resample
    wrong = ""
    if not (math.isfinite(rescale) and rescale > 0):
        wrong = f"rescale_factor is {rescale}, which makes no picture; 1/255 is the usual one"
    elif resample not in list(Image.Resampling):
        wrong = f"resample is {resample}, which is none of Pillow's filters; 3 is bicubic"
    if wrong:
        raise CheckpointError(f"{source.path}: its image processor's {wrong}; mend it.")


def write_vision(source: Checkpoint, file: Path, kind: str, class_token: ClassToken) -> None:
    """Write the mmproj file: `check_vision` has found nothing."""
    vision, config = vision_config(source.config), source.config
    act = str(vision.get("hidden_act", "quick_gelu"))
    writer = new_file(file, "clip", source.path.resolve().name, kind)
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(int(vision["image_size"]))
    writer.add_vision_patch_size(int(vision["patch_size"]))
    writer.add_vision_embedding_length(int(vision["hidden_size"]))
    writer.add_vision_feed_forward_length(int(vision["intermediate_size"]))
    writer.add_vision_block_count(int(vision["num_hidden_layers"]))
    writer.add_vision_head_count(int(vision["num_attention_heads"]))
    writer.add_vision_attention_layernorm_eps(float(vision.get("layer_norm_eps", 1e-5)))
    writer.add_vision_projection_dim(int(text_config(config)["hidden_size"]))
    whole = 255 * source.pixels.rescale  # llama.cpp divides by 255, whatever our pixels are
    writer.add_vision_image_mean([value / whole for value in source.pixels.mean])
    writer.add_vision_image_std([value / whole for value in source.pixels.std])
    writer.add_vision_use_gelu(act in TANH)
    writer.add_vision_use_silu(act == "silu")
    writer.add_array(FEATURE_LAYER, sorted(set(feature_layers(config))))
    write_parts(writer, _parts(source, read_tensors(source), class_token), kind, source.path)


def _parts(source: Checkpoint, tensors: Tensors, class_token: ClassToken) -> Iterator[Part]:
    embeddings = f"{VISION}embeddings"
    yield plain("v.class_embd", tensors[f"{embeddings}.class_embedding"])
    yield plain("v.patch_embd.weight", tensors[f"{embeddings}.patch_embedding.weight"])
    table = tensors[f"{embeddings}.position_embedding.weight"]
    turn = -1 if class_token == "last" else 0
    yield Part("v.position_embd.weight", table.shape, lambda: np.roll(table, turn, axis=0), True)
    for part in ("weight", "bias"):
        yield plain(f"v.pre_ln.{part}", tensors[f"{VISION}pre_layrnorm.{part}"])
    for index in range(int(vision_config(source.config)["num_hidden_layers"])):
        for ours, theirs in TOWER.items():
            for part in ("weight", "bias"):
                values = tensors[f"{VISION}encoder.layers.{index}.{ours}.{part}"]
                yield plain(f"v.blk.{index}.{theirs}.{part}", values)
    yield from _projector(source.config, tensors)


def _projector(config: Mapping[str, Any], tensors: Tensors) -> Iterator[Part]:
    """Two layers around llama.cpp's GELU, whatever ours are around.

    A linear one goes through GELU twice, as x and as -x: GELU(x) - GELU(-x) is x.
    """
    first = _in_order(np.asarray(tensors[f"{PROJECTOR}linear_1.weight"], np.float32), config)
    second = np.asarray(tensors[f"{PROJECTOR}linear_2.weight"], np.float32)
    bias = [
        np.asarray(tensors.get(f"{PROJECTOR}linear_{n}.bias", np.zeros(len(second))), np.float32)
        for n in (1, 2)
    ]
    if config.get("projector_hidden_act") == "linear":
        first, bias[0] = np.concatenate((first, -first)), np.concatenate((bias[0], -bias[0]))
        second = np.concatenate((second, -second), axis=1)
    yield plain("mm.0.weight", first)
    yield plain("mm.0.bias", bias[0])
    yield plain("mm.2.weight", second)
    yield plain("mm.2.bias", bias[1])


def _in_order(weight: Array, config: Mapping[str, Any]) -> Array:
    """The first layer's columns for features side by side in the tower's order, each layer once."""
    layers = feature_layers(config)
    blocks = np.split(weight, len(layers), axis=1)
    merged = {layer: np.zeros_like(blocks[0]) for layer in sorted(set(layers))}
    for layer, block in zip(layers, blocks, strict=True):
        merged[layer] = merged[layer] + block
    return np.concatenate(list(merged.values()), axis=1)
