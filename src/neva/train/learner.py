"""The model, which part of it learns, and one optimiser step. Frozen parts never get a gradient."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.forward import PackedInputs, packed_forward
from neva.model.keys import PROJECTOR, VISION, disk_name
from neva.model.load import load_model
from neva.model.projector import learning_parameters
from neva.train.cpu_attention import use_short_attention
from neva.train.optimizer import MasterAdamW
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe


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
    """A checkpoint made ready to learn by a recipe."""

    def __init__(self, parent: Checkpoint, recipe: Recipe, ranks: Ranks | None = None) -> None:
        self.parent, self.recipe, self.ranks = parent, recipe, ranks or Ranks()
        device = self.ranks.device
        self.dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        self.model: LlavaForConditionalGeneration = load_model(parent, device, self.dtype)
        if device == "cpu":
            use_short_attention(self.model)
        self.model.requires_grad_(False)
        if recipe.lora:
            _add_lora(self.model, recipe)
        self.optimizer = MasterAdamW(self._trainable(), recipe, self.dtype)
        self._set_modes()

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
                learns = "lora_" in name if self.recipe.lora else True
            parameter.requires_grad_(learns)
            if learns:
                chosen[disk] = parameter
        if not chosen:
            raise CheckpointError(f"{self.parent.path}: nothing in it can learn.")
        return chosen

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
                self.ranks.add_up(self.optimizer.gradients())
            norm = self.optimizer.clip(self.recipe.grad_clip)
        applied = math.isfinite(norm)
        if applied:
            self.optimizer.step(share)
        else:
            self.optimizer.drop_gradients()
        return Outcome(total / supervised, norm, supervised, tokens, applied)

    def _backward(self, rows: Sequence[PackedInputs], supervised: int) -> float:
        """Add this rank's gradients; its summed loss, not finite if a row's was not."""
        total = 0.0
        for row in rows:
            loss, _ = packed_forward(self.model, row, self.parent.pixels)
            total += float(loss.detach())
            if not math.isfinite(total):
                break
            (loss / supervised).backward()  # type: ignore[no-untyped-call]
        return total

    @torch.no_grad()
    def judge(self, rows: Sequence[PackedInputs]) -> tuple[float, int]:
        """(summed loss, supervised tokens) of rows that are not learned from."""
        total, count = 0.0, 0
        for row in rows:
            loss, supervised = packed_forward(self.model, row, self.parent.pixels)
            total, count = total + float(loss), count + supervised
        return total, count

    def trained(self) -> dict[str, Tensor]:
        """The float32 masters of what learned, by disk name."""
        return {name: master.detach() for name, master in self.optimizer.masters.items()}


def supervised_tokens(row: PackedInputs) -> int:
    """Targets of a row; the first token of a document has nothing that predicts it."""
    first = row.supervised[row.cu_seqlens[:-1].long()]
    return int(row.supervised.sum()) - int(first.sum())


def _add_lora(model: LlavaForConditionalGeneration, recipe: Recipe) -> None:
    from neva.model.adapter import LoraShape, add_lora  # peft is imported only where it is used

    targets = tuple(name.strip() for name in recipe.lora_targets.split(","))
    torch.manual_seed(recipe.seed)
    add_lora(model, LoraShape(recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout, targets))
