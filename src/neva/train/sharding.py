"""How a model lies on the processes: whole copies, shards of it (FSDP2), and layers cut in two.

The processes stand in a grid of copies x shards x tensor. Over `shards` the weights, gradients and
moments of what learns, and the weights of what does not, are divided (`fully_shard`, layer by
layer); over `tensor` each layer's matrices are (`neva.train.tensor_parallel`); `copies` are whole.
The frozen CLIP is never sharded: ranks whose rows have no image do not run it, and a sharded module
that only some ranks run would hang them all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from transformers import LlavaForConditionalGeneration

from neva.errors import NevaError
from neva.images import PixelRecipe
from neva.model.forward import PackedInputs, packed_forward
from neva.model.head import Entropy, plain_entropy
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe

T = TypeVar("T")

# A row for ranks that have fewer than others: two tokens of text, nothing learned.
IDLE = PackedInputs(
    ids=torch.zeros(2, dtype=torch.int64),
    positions=torch.arange(2),
    cu_seqlens=torch.tensor([0, 2], dtype=torch.int32),
    supervised=torch.zeros(2, dtype=torch.bool),
)


@dataclass(frozen=True)
class Grid:
    """copies x shards x tensor processes; neighbours in rank compute a layer together."""

    copies: int
    shards: int
    tensor: int

    @classmethod
    def of(cls, recipe: Recipe, world: int) -> "Grid":
        """The grid of a recipe on `world` processes; NevaError where they do not divide."""
        tensor, alone = recipe.tensor_parallel, world == 1
        if alone and (tensor > 1 or recipe.shard > 1):
            asked = max(tensor, 1) * max(recipe.shard, 1)
            raise NevaError(
                f"--shard {recipe.shard} with --tensor-parallel {tensor} needs {asked} processes "
                f"or a multiple of it, and this is one: start it with `torchrun --nproc-per-node "
                f"{asked} -m neva ...`."
            )
        if world % tensor:
            raise NevaError(
                f"{world} processes cannot be divided by --tensor-parallel {tensor}; start a "
                "multiple of it."
            )
        shards = recipe.shard or world // tensor
        if world // tensor % shards:
            raise NevaError(
                f"{world} processes with --tensor-parallel {tensor} cannot be divided by --shard "
                f"{shards}; start a multiple of {shards * tensor}, or use --shard 0 for all."
            )
        return cls(world // tensor // shards, shards, tensor)

    @property
    def divided(self) -> bool:
        """True where no process holds the whole model."""
        return self.shards > 1 or self.tensor > 1

    def mesh(self, ranks: Ranks) -> DeviceMesh | None:
        """The grid as torch knows it; None for one process. All ranks must call it."""
        if ranks.world == 1:
            return None
        sizes, names = (self.copies, self.shards, self.tensor), ("copies", "shards", "tensor")
        return init_device_mesh(torch.device(ranks.device).type, sizes, mesh_dim_names=names)


class Whole(nn.Module):
    """A model and its training forward as one module: what FSDP gathers the weights around."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        pixels: PixelRecipe,
        entropy: Entropy = plain_entropy,
    ) -> None:
        super().__init__()
        self.model, self.pixels, self.entropy = model, pixels, entropy

    def forward(self, row: PackedInputs) -> tuple[Tensor, int]:
        """As `packed_forward`; the loss depends on every weight also where nothing is learned."""
        loss, count = packed_forward(self.model, row, self.pixels, self.entropy)
        if count == 0:  # the head has not run; every rank must send the same gradients
            head = self.model.lm_head
            nothing = head.weight.new_zeros(1, head.weight.shape[-1])
            loss = loss + 0 * head(nothing).float().sum()
        return loss, count

    def call(self, function: Callable[..., T], *inputs: Any) -> T:
        """`function(model, *inputs)` with the outer weights whole, as in `forward`."""
        return function(self.model, *inputs)


def shard(whole: Whole, grid: Grid, mesh: DeviceMesh, recipe: Recipe, device: str) -> None:
    """Divide `whole` over the grid's shards, in place; it may still lie on the CPU.

    What learns is kept, reduced and updated in float32 and gathered in the recipe's precision. One
    group a decoder layer; embedding, last norm, head and projector are the outermost group, whole
    from the beginning of a forward to the end of its backward.
    """
    model = whole.model
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if recipe.precision == "bf16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    plane = mesh["copies", "shards"] if grid.copies > 1 else mesh["shards"]
    tower: set[nn.Parameter] = set()
    if model.model.vision_tower is not None:  # None: a run over cached features
        tower = set(model.model.vision_tower.to(device).parameters())
    for layer in decoder_layers(model):
        _keep_masters(layer)
        fully_shard(layer, mesh=plane, mp_policy=policy)
    _keep_masters(whole)
    fully_shard(
        whole, mesh=plane, mp_policy=policy, ignored_params=tower, reshard_after_forward=False
    )
    register_fsdp_forward_method(whole, "call")
    for module in whole.modules():
        if isinstance(module, FSDPModule):  # the loss is divided already: sums, not means
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _keep_masters(module: nn.Module) -> None:
    """float32 for what learns and is not sharded yet; what is frozen stays as small as it is."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def decoder_layers(model: LlavaForConditionalGeneration) -> nn.ModuleList:
    """The LM's layers, whatever its family calls them."""
    body = model.model.language_model
    for name in ("layers", "h"):
        if isinstance(found := getattr(body, name, None), nn.ModuleList):
            return found
    raise NevaError(f"{type(body).__name__} has no list of layers that could be sharded.")


def local(tensor: Tensor) -> Tensor:
    """This rank's piece of a divided tensor, sharing its memory; any other as it is."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(piece: Tensor, parameter: Tensor) -> Tensor:
    """`piece`, this rank's part of something that is divided as `parameter` is."""
    if not isinstance(parameter, DTensor):
        return piece
    return DTensor.from_local(
        piece,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def piece_of(full: Tensor, parameter: Tensor) -> Tensor:
    """This rank's part of `full`, which every rank has, divided as `parameter` is."""
    if not isinstance(parameter, DTensor):
        return full
    mesh, placements = parameter.device_mesh, parameter.placements
    return local(distribute_tensor(full, mesh, placements, src_data_rank=None))


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a divided tensor; every rank must ask for it."""
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    for number in range(len(placements)):  # shards first: they are pieces of what was cut
        placements[number] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return tensor.to_local()


def division(tensor: Tensor) -> Iterator[torch.distributed.ProcessGroup]:
    """The groups of ranks over which a tensor is cut in pieces."""
    if isinstance(tensor, DTensor):
        for number, placement in enumerate(tensor.placements):
            if not placement.is_replicate():
                yield tensor.device_mesh.get_group(number)
