"""The end of a run: a checkpoint in `final/`, the adapter, the summary and the plot."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neva.model import Provenance, read_tensors
from neva.model.arrays import as_tensor
from neva.model.keys import disk_name
from neva.model.save import save_checkpoint
from neva.train.folder import RunFolder
from neva.train.learner import Learner
from neva.train.metrics import plot, read_metrics

if TYPE_CHECKING:
    from neva.train.feed import Feed


def write_final(learner: Learner, feed: "Feed", folder: RunFolder) -> None:
    """Write `final/` (and `adapter/`): what learned from its masters, the rest from the parent."""
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
    _make_exact(learner)
    if recipe.lora:
        from neva.model.adapter import merge_lora, save_adapter

        save_adapter(learner.model, folder.adapter)
        merge_lora(learner.model)
    save_checkpoint(learner.model, parent, folder.final, provenance)


@torch.no_grad()
def _make_exact(learner: Learner) -> None:
    """Give the model the masters and, of what is frozen, the parent's own numbers.

    In float32, so that nothing is rounded twice: the writer rounds to the parent's dtype, and what
    was frozen comes out bit for bit as it was.
    """
    learner.model.float()
    parents = read_tensors(learner.parent)
    masters: Mapping[str, Tensor] = learner.trained()
    for name, parameter in learner.model.named_parameters():
        disk = disk_name(name)
        if disk in masters:
            parameter.copy_(masters[disk])
        else:
            parameter.copy_(as_tensor(parents[disk.replace(".base_layer.", ".")]))


def draw(folder: RunFolder, title: str) -> None:
    """`loss.png` from the metrics."""
    plot(list(read_metrics(folder.metrics)), folder.path / "loss.png", title)
