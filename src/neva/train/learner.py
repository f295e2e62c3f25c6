"""The model, which part of it learns, and one optimiser step. Frozen parts never get a gradient."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from neva.errors import CheckpointError, NevaError
from neva.model import Checkpoint
from neva.model.forward import PackedInputs
from neva.model.head import plain_entropy
from neva.model.keys import PROJECTOR, VISION, disk_name
from neva.model.load import Part, load_model
from neva.model.projector import learning_parameters
from neva.model.stored import stored_tensors
from neva.train.cpu_attention import use_short_attention
from neva.train.cpu_limits import packs, piece_tokens
from neva.train.fused import use_fused_layers
from neva.train.kernels import open_kernels
from neva.train.lean import LeanAdamW
from neva.train.memory import prepare_cpu, return_freed_memory
from neva.train.optimizer import MasterAdamW, Optimizer
from neva.train.packed import frozen_bytes, pack_frozen
from neva.train.pieces import pieces
from neva.train.precision import dtype_of, settled
from neva.train.quantised import load_quantised
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe
from neva.train.sharding import IDLE, Grid, Whole, shard
from neva.train.tensor_parallel import parallelise


@dataclass(frozen=True)
class Outcome:
    """What one step did. `loss` is per supervised token; `applied` False where it was not finite
    and the weights stayed as they were.
    """

    loss: float
    norm: float
    supervised: int
    tokens: int
    applied: bool


class Learner:
    """A checkpoint made ready to learn by a recipe.

    On a CPU `fused` layers take the place of those of Hugging Face: the same numbers, other steps.
    Without its `tower` a model learns from cached features only.
    """

    def __init__(
        self,
        parent: Checkpoint,
        recipe: Recipe,
        ranks: Ranks | None = None,
        fused: bool = True,
        tower: bool = True,
    ) -> None:
        self.parent, self.ranks = parent, ranks or Ranks()
        self.recipe = recipe = settled(recipe, self.ranks.device)
        self.grid = Grid.of(recipe, self.ranks.world)
        self.dtype, self.piece = dtype_of(recipe.precision), piece_tokens(parent.image_tokens)
        if self.ranks.device == "cpu":
            prepare_cpu()
        self.model = self._load(tower)
        if self.ranks.device == "cpu":
            use_short_attention(self.model)
            if fused:
                use_fused_layers(self.model)
        self.model.requires_grad_(False)
        if recipe.lora:
            add_recipes_lora(self.model, recipe)
            self._settle_adapter()
        self._set_modes()
        kernels = open_kernels(self.dtype) if self.ranks.device == "cpu" and fused else None
        self.whole = Whole(self.model, parent.pixels, kernels.entropy if kernels else plain_entropy)
        self._divide()
        self.optimizer = self._optimizer()
        self._begin_exactly()
        if self.ranks.device == "cpu" and fused and not self.grid.divided:
            self._pack()

    def _pack(self) -> None:
        """Lay frozen layers out for a CPU's products: CLIP's, and the LM's as the recipe says."""
        body = self.model.model.language_model
        if self.model.model.vision_tower is not None:
            pack_frozen(self.model.model.vision_tower, gradient=False)
        if packs(self.recipe.pack, frozen_bytes(body)):
            pack_frozen(body)
        return_freed_memory()

    def _load(self, tower: bool) -> LlavaForConditionalGeneration:
        """The parent's model, on the CPU where it is going to be divided."""
        if self.recipe.qlora:
            return load_quantised(self.parent, self.ranks.device, self.dtype, tower)
        device = "cpu" if self.grid.divided else self.ranks.device
        without: list[Part] = [] if tower else ["vision"]
        return load_model(self.parent, device, self.dtype, without=without)

    def _settle_adapter(self) -> None:
        """In the run's dtype: what is held of an adapter, as all that is frozen, and all of it
        where layers are cut: a cut tensor keeps the dtype that it had. FSDP gathers in its own."""
        cut = self.grid.tensor > 1 and self.grid.shards == 1
        for name, parameter in self.model.named_parameters():
            held = ".lora_" in name and not lm_learns(name, self.recipe)
            if (cut and ".lora_" in name) or (held and not self.grid.divided):
                parameter.data = parameter.data.to(self.dtype)

    def _divide(self) -> None:
        """Lay the model on the processes as the recipe says."""
        mesh = self.grid.mesh(self.ranks)
        self._copies = None  # the ranks with whole copies, whose gradients are to be summed
        if mesh is None:
            return
        self._trainable()
        if self.grid.tensor > 1:
            parallelise(self.model, mesh["tensor"], self.ranks.device)
        if self.grid.shards > 1:
            shard(self.whole, self.grid, mesh, self.recipe, self.ranks.device)
        else:
            self._copies = mesh["copies"].get_group()

    def _trainable(self) -> Mapping[str, nn.Parameter]:
        """What learns, by disk name; everything else keeps requires_grad False."""
        chosen: dict[str, nn.Parameter] = {}
        activation = self.model.config.projector_hidden_act
        learning = learning_parameters(self.model.model.multi_modal_projector, activation)
        projector = {id(parameter) for parameter in learning.values()}
        for name, parameter in self.model.named_parameters():
            disk = disk_name(name)
            if disk.startswith(PROJECTOR):
                learns = id(parameter) in projector
            elif self.recipe.stage == "pretrain" or disk.startswith(VISION):
                learns = False
            else:
                learns = lm_learns(name, self.recipe)
            parameter.requires_grad_(learns)
            if learns:
                chosen[disk] = parameter
        if not chosen:
            raise CheckpointError(f"{self.parent.path}: nothing in it can learn.")
        return chosen

    def _optimizer(self) -> Optimizer:
        learning = self._trainable()
        if self.recipe.lean_optimizer:
            return LeanAdamW(learning, self.recipe)
        return MasterAdamW(learning, self.recipe, self.dtype, sharded=self.grid.shards > 1)

    def _begin_exactly(self) -> None:
        """Masters begin at the parent's own numbers, where the run's dtype has rounded them."""
        if self.dtype == torch.float32:
            return
        for one in stored_tensors(self.parent.path).values():
            name = disk_name(one.entry.name)
            if name in self.optimizer.parameters and one.dtype != self.dtype:
                self.optimizer.begin(name, one[...].float())

    def _set_modes(self) -> None:
        """Evaluation mode, so that no dropout of the base models runs; only the adapter's does."""
        self.model.eval()
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Dropout) and "lora_" in name:
                module.train()
        if self.recipe.checkpointing:
            self.model.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
            for module in self.model.model.language_model.modules():
                if getattr(module, "gradient_checkpointing", False):
                    module.training = True  # of this module only: its dropout stays off

    def learn(self, rows: Sequence[PackedInputs], share: float) -> Outcome:
        """One optimiser step over `rows` of all ranks, at `share` of the peak learning rate.

        The loss is the mean over all supervised tokens of all rows, however they are packed and
        on however many ranks they lie.
        """
        mine = sum(supervised_tokens(row) for row in rows)
        supervised, tokens = map(int, self.ranks.total([mine, sum(len(row.ids) for row in rows)]))
        if supervised == 0:
            return Outcome(math.nan, 0.0, 0, tokens, applied=False)
        (total,) = self.ranks.total([self._backward(rows, supervised)])
        norm = math.nan
        if math.isfinite(total):
            if self.ranks.world > 1:
                gradients = self.optimizer.sums.every()
                if self._copies is not None:
                    self.ranks.add_up(gradients, self._copies)
            norm = self.optimizer.sums.clip(self.recipe.grad_clip)
        applied = math.isfinite(norm)
        if applied:
            self.optimizer.step(share)
        else:
            self.optimizer.sums.drop()
        return Outcome(total / supervised, norm, supervised, tokens, applied)

    def _backward(self, rows: Sequence[PackedInputs], supervised: int) -> float:
        """Add this rank's gradients; its summed loss, not finite if a row's was not."""
        total = 0.0
        for row in self._shares(rows):
            loss, _ = self.whole(row)
            total += float(loss.detach())
            if not math.isfinite(total) and not self.grid.divided:
                break  # processes that divide a model go through all rows together
            (loss / supervised).backward()
        return total

    def _shares(self, rows: Sequence[PackedInputs]) -> Iterator[PackedInputs]:
        """What goes through the model at once; as often on every rank, where it is divided."""
        if self.grid.divided:
            yield from self._even(rows)
            return
        cut, image = self.ranks.device == "cpu", self.model.config.image_token_id
        for row in rows:
            yield from pieces(row, self.piece, image) if cut else [row]

    def _even(self, rows: Iterable[PackedInputs]) -> Iterator[PackedInputs]:
        """As many rows on every rank, where a model is divided: each row is work for all."""
        rest = iter(rows)
        while True:
            row = next(rest, None)
            if not (self.ranks.most(row is not None) if self.grid.divided else row is not None):
                return
            yield IDLE if row is None else row

    @torch.no_grad()
    def judge(self, rows: Iterable[PackedInputs]) -> tuple[float, int]:
        """(summed loss, supervised tokens) of every rank's `rows`, which are not learned from."""
        total, count = 0.0, 0
        for row in self._even(rows):
            loss, supervised = self.whole(row)
            total, count = total + float(loss), count + supervised
        total, counted = self.ranks.total([total, count])
        return total, int(counted)

    def trained(self) -> Mapping[str, Tensor]:
        """The float32 masters of what learned, by disk name, on the first rank; all must ask."""
        return self.optimizer.whole(keep=self.ranks.first)


def supervised_tokens(row: PackedInputs) -> int:
    """Targets of a row; the first token of a document has nothing that predicts it."""
    first = row.supervised[row.cu_seqlens[:-1].long()]
    return int(row.supervised.sum()) - int(first.sum())


def lm_learns(name: str, recipe: Recipe) -> bool:
    """Whether a parameter of the LM learns: each of them, or of an adapter what is not held."""
    held = any(part in name for part in held_parts(recipe))
    return not recipe.lora or ("lora_" in name and not held)


def held_parts(recipe: Recipe) -> list[str]:
    """What the names of an adapter's parameters hold that stay as they began."""
    return [part.strip() for part in recipe.lora_hold.split(",") if part.strip()]


def add_recipes_lora(model: LlavaForConditionalGeneration, recipe: Recipe) -> None:
    """Put the recipe's adapter on `model`, in float32: its first numbers are a saved one's, or
    follow from the seed."""
    # peft is imported only where it is used
    from neva.model.adapter import LoraShape, add_lora, start_from

    targets = tuple(name.strip() for name in recipe.lora_targets.split(","))
    torch.manual_seed(recipe.seed)
    add_lora(model, LoraShape(recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout, targets))
    names = [name for name, _ in model.named_parameters() if "lora_" in name]
    unknown = [part for part in held_parts(recipe) if not any(part in name for name in names)]
    if unknown:
        raise NevaError(
            f"lora_hold: the adapter has no part {', '.join(unknown)}; a part is lora_A, lora_B or "
            "the name of a layer with an adapter, like up_proj."
        )
    if recipe.lora_from:
        start_from(model, Path(recipe.lora_from))
