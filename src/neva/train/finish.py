"""The end of a run: a checkpoint in `final/`, the adapter, the summary and the plot.

However a run's model was divided or quantised, what it made is one Hugging Face checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from neva.model import Provenance, read_tensors
from neva.model.arrays import as_tensor
from neva.model.keys import disk_name
from neva.model.load import load_model
from neva.model.save import save_checkpoint
from neva.train.folder import RunFolder
from neva.train.learner import Learner, add_recipes_lora
from neva.train.metrics import plot
from neva.train.story import read_lines

if TYPE_CHECKING:
    from neva.train.feed import Feed


def write_final(
    learner: Learner,
    masters: Mapping[str, Tensor],
    feed: "Feed",
    final: Path,
    adapter: Path,
    again: bool = False,
) -> None:
    """Write `final` (and `adapter`): what learned from its masters, the rest from the parent.

    `again`: another has been written before, so that the learner's own model is used up.
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
    model = _exact(learner, masters, again)
    if recipe.lora:
        from neva.model.adapter import merge_lora, save_adapter

        save_adapter(model, adapter)
        merge_lora(model)
    save_checkpoint(model, parent, final, provenance)


@torch.no_grad()
def _exact(
    learner: Learner, masters: Mapping[str, Tensor], again: bool
) -> LlavaForConditionalGeneration:
    """A model with the masters and, of what is frozen, the parent's own numbers.

    In float32, so that nothing is rounded twice: the writer rounds to the parent's dtype, and what
    was frozen comes out bit for bit as it was. It is the learner's own model, unless that is in
    pieces, in 4 bits, or used up.
    """
    model, recipe = learner.model, learner.recipe
    if again or learner.grid.divided or recipe.qlora:
        model = load_model(learner.parent, "cpu", torch.float32)
        if recipe.lora:
            add_recipes_lora(model, recipe)
    model.float()
    parents = read_tensors(learner.parent)
    for name, parameter in model.named_parameters():
        disk = disk_name(name)
        if disk in masters:
            parameter.copy_(masters[disk])
        else:
            parameter.copy_(as_tensor(parents[disk.replace(".base_layer.", ".")]))
    return model


def draw(folder: RunFolder, title: str) -> None:
    """`loss.png` from the metrics."""
    plot(list(read_lines(folder.metrics)), folder.path / "loss.png", title)
