"""What a reader has found in another's checkpoint, in our words and not yet written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neva.errors import CheckpointError
from neva.model.importing.raw import Raw, Raws
from neva.model.kinds import ProjectorKind
from neva.model.provenance import Aspect


@dataclass(frozen=True)
class Voice:
    """A language model's configuration (Hugging Face's) and tokenizer, without its weights."""

    source: str
    config: Mapping[str, Any]
    tokenizer: Tokenizer
    special: Mapping[str, str]
    eos_ids: tuple[int, ...]
    chat_template: str = ""


@dataclass(frozen=True)
class Tower:
    """A CLIP's vision half; `tensors` by disk names. `origin` are the files that they come from."""

    source: str
    config: Mapping[str, Any]
    tensors: Raws
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Found:
    """All parts of a checkpoint to be; `tensors` are the LM's and the projector's by disk names.

    `template` is the one that the source says it was trained with, if it does. `made` is what
    `neva.json` will say of the import; `origins` are the sources' files of weights, the nearest
    first: one tuple for each source. `notes` are what the user should know.
    """

    source: Path
    voice: Voice
    tower: Tower
    tensors: Raws
    projector: ProjectorKind
    layer: int
    aspect: Aspect
    made: Mapping[str, Any]
    template: str | None = None
    origins: tuple[tuple[Path, ...], ...] = ()
    notes: tuple[str, ...] = ()


def only(source: Path, known: Raws, all_names: Mapping[str, Raw]) -> None:
    """CheckpointError if tensors are left over that neva does not know: another kind of model."""
    lost = sorted(set(all_names) - set(known))
    if lost:
        raise CheckpointError(
            f"{source}: {len(lost)} of its tensors are none of a LLaVA that neva knows, first "
            f"{lost[0]}; a model that has them computes something else, so it is not imported."
        )
