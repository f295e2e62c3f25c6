"""Names of tensors: every naming that LLaVA checkpoints have had, and the one that we write.

transformers 4.57 and 5.5 keep CLIP under `vision_tower.vision_model.`, 5.23 under `vision_tower.`,
and a version that meets the other's names loads random weights with a mere warning. The names on
disk below are loaded by all of them, and by vLLM; `disk_name` is the only place that knows this.
"""

from collections.abc import Iterable

# (prefix found in a file or in a model's memory, prefix on our disk); the first that fits wins.
PREFIXES: tuple[tuple[str, str], ...] = (
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("vision_tower.vision_model.", "vision_tower.vision_model."),
    ("vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("multi_modal_projector.", "multi_modal_projector."),
    ("language_model.lm_head.", "language_model.lm_head."),
    ("lm_head.", "language_model.lm_head."),
    ("model.language_model.model.", "language_model.model."),
    ("model.language_model.", "language_model.model."),
    ("language_model.model.", "language_model.model."),
    ("language_model.", "language_model.model."),
)

VISION = "vision_tower.vision_model."
PROJECTOR = "multi_modal_projector."
BODY = "language_model.model."
HEAD = "language_model.lm_head.weight"


def disk_name(name: str) -> str:
    """The name on our disk of a tensor named by any version of transformers, file or memory."""
    for prefix, ours in PREFIXES:
        if name.startswith(prefix):
            return ours + name[len(prefix) :]
    return name


def memory_names(names_in_memory: Iterable[str]) -> dict[str, str]:
    """Disk name -> name in the model of the running transformers, for the model's own names."""
    return {disk_name(name): name for name in names_in_memory}
