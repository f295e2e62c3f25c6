"""Tensor parallelism: each decoder layer's matrices cut over neighbouring processes (DTensor).

Megatron's scheme through torch's `parallelize_module`: the matrices that read the residual stream
are cut by outputs (whole heads, slices of the MLP), those that write it by inputs, so that a layer
has one sum after attention and one after the MLP. Embedding, norms, head, projector and CLIP are
whole on every process and compute the same numbers there. An adapter is cut as its matrix is.
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from transformers import LlavaForConditionalGeneration

from neva.errors import NevaError
from neva.train.sharding import decoder_layers

# LMs whose layers are written this way, and whose heads share no weight that learns.
FAMILIES = ("llama", "mistral", "qwen2", "nemotron")
READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
WRITERS = ("o_proj", "down_proj")


def parallelise(model: LlavaForConditionalGeneration, mesh: DeviceMesh, device: str) -> None:
    """Cut the LM's layers over `mesh`, in place, and move all to `device`.

    NevaError for a family that is not llama-like, and for heads that the processes do not divide.
    """
    _check(model, mesh.size())
    model.to(device)
    for layer in decoder_layers(model):
        parallelize_module(layer, mesh, _layer_plan(layer))


def _check(model: LlavaForConditionalGeneration, pieces: int) -> None:
    said = model.config.text_config
    if said.model_type not in FAMILIES:
        raise NevaError(
            f"--tensor-parallel {pieces}: layers of {said.model_type!r} cannot be cut; it is there "
            f"for {', '.join(FAMILIES)}. Use --shard 0 (FSDP) instead."
        )
    heads, shared = said.num_attention_heads, said.num_key_value_heads
    if heads % pieces or shared % pieces or said.intermediate_size % pieces:
        raise NevaError(
            f"--tensor-parallel {pieces} divides neither or only some of the LM's {heads} heads, "
            f"{shared} key heads and {said.intermediate_size} inner values; use a number that "
            "divides all of them."
        )


def _layer_plan(layer: nn.Module) -> dict[str, ParallelStyle]:
    """The style of every matrix of a layer, and of the adapter on it."""
    plan: dict[str, ParallelStyle] = {}
    for name, module in layer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        matrix = next((part for part in name.split(".") if part in READERS + WRITERS), None)
        if matrix in READERS:
            if ".lora_A." not in name:  # the adapter's inner values are whole on every process
                plan[name] = ColwiseParallel()
        elif matrix in WRITERS and ".lora_B." not in name:
            plan[name] = RowwiseParallel(input_layouts=Shard(-1), output_layouts=Replicate())
    return plan
