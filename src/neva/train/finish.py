"""The end of a run: a checkpoint in `final/`, the adapter, the summary and the plot.

However a run's model was divided or quantised, what it made is one Hugging Face checkpoint.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from neva.model import Checkpoint, Provenance, read_tensors
from neva.model.arrays import as_tensor
from neva.model.keys import PROJECTOR, disk_name
from neva.model.load import load_model
from neva.model.save import save_tensors
from neva.train.folder import RunFolder
from neva.train.learner import Learner, add_recipes_lora
from neva.train.memory import return_freed_memory
from neva.train.metrics import plot
from neva.train.story import read_lines

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTunerLayer

    from neva.train.feed import Feed


def write_final(
    learner: Learner, masters: Mapping[str, Tensor], feed: "Feed", final: Path, adapter: Path
) -> None:
    """Write `final` (and `adapter`): what learned from its masters, the rest from the parent.

    One tensor at a time: beyond the masters it takes next to no memory. May be called again with
    other masters.
    """
    parent, recipe = learner.parent, learner.recipe
    provenance = Provenance(
        stage="pretrained" if recipe.stage == "pretrain" else "finetuned",
        template=parent.template.name if recipe.stage == "pretrain" else feed.template.name,
        aspect=parent.provenance.aspect,
        projector=parent.provenance.projector,
        recipe=recipe.to_json(),
        datasets=(*parent.provenance.datasets, *feed.datasets()),
        parents=(parent.sha256, *parent.provenance.parents),
    )
    learner.optimizer.forget()
    return_freed_memory()
    adapters = _write_adapter(learner, masters, adapter) if recipe.lora else {}
    made = Made(parent, masters, _tied(learner.model), adapters)
    save_tensors(made, parent, final, provenance, parent.dtype)


def _write_adapter(
    learner: Learner, masters: Mapping[str, Tensor], out: Path
) -> dict[str, "BaseTunerLayer"]:
    """Write the adapter alone; its layers, by the disk names of the weights beneath."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # peft is imported only where it is used

    from neva.model.adapter import save_adapter

    model = _with_masters(learner, masters)
    save_adapter(model, out, learner.parent.sha256)
    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer))
    return {disk_name(f"{name}.weight"): layer for name, layer in layers}


class Made(Mapping[str, Tensor]):
    """The tensors that a run made, by disk name, each put together when it is asked for.

    What learned comes from its float32 master, what is frozen has the parent's own bits, and an
    adapter's sum is made in float32: the writer rounds once, to the parent's dtype.
    """

    def __init__(
        self,
        parent: Checkpoint,
        masters: Mapping[str, Tensor],
        tied: Mapping[str, str],
        adapters: Mapping[str, "BaseTunerLayer"],
    ) -> None:
        self.frozen, self.masters = read_tensors(parent), masters
        self.tied, self.adapters = tied, adapters

    def __getitem__(self, name: str) -> Tensor:
        master = self.masters.get(self.tied.get(name, name))
        if master is not None:
            return master
        frozen = as_tensor(self.frozen[name])
        if name not in self.adapters:
            return frozen
        delta: Tensor = self.adapters[name].get_delta_weight("default")
        return frozen.float() + delta.detach().cpu()

    def __iter__(self) -> Iterator[str]:
        whole = (name for name in self.masters if ".lora_" not in name)
        return iter(dict.fromkeys((*self.frozen, *whole)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _tied(model: LlavaForConditionalGeneration) -> dict[str, str]:
    """Disk names of parameters that are another's: name -> the name under which it learns."""
    first = {id(one): disk_name(name) for name, one in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {disk_name(name): first[id(one)] for name, one in every}


@torch.no_grad()
def _with_masters(learner: Learner, masters: Mapping[str, Tensor]) -> LlavaForConditionalGeneration:
    """A model whose adapter and projector are exact: the learner's, where it is whole."""
    model = learner.model
    if learner.grid.divided:
        model = load_model(learner.parent, "cpu", without=["vision"])
        add_recipes_lora(model, learner.recipe)
    model.model.multi_modal_projector.float()
    for name, parameter in model.named_parameters():
        disk = disk_name(name)
        if disk in masters:
            parameter.data = masters[disk]
        elif disk.startswith(PROJECTOR):
            parameter.data = as_tensor(read_tensors(learner.parent)[disk]).float()
        elif ".lora_" in name:
            parameter.data = parameter.data.float()
    return model


def draw(folder: RunFolder, title: str) -> None:
    """`loss.png` from the metrics."""
    plot(list(read_lines(folder.metrics)), folder.path / "loss.png", title)
