"""Where a checkpoint comes from: `neva.json`, written beside `config.json`.

The template's name is here and nowhere else: behaviour never depends on a folder's name.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from neva.errors import CheckpointError

FILE = "neva.json"
FORMAT = 1

# CC-BY-NC-4.0, "non-commercial", "NonCommercial use only", "for research use only", ...
NON_COMMERCIAL = re.compile(
    r"(?<![A-Z])NC(?![A-Z])|non[\s_-]*commercial|research[\w\s-]*only|academic[\w\s-]*only",
    re.IGNORECASE,
)

Stage = Literal["composed", "pretrained", "finetuned", "foreign"]
Aspect = Literal["pad", "square"]
TemplateSource = Literal["recorded", "option", "chat template", "likeness", "default"]


@dataclass(frozen=True)
class DatasetUsed:
    """One data set that took part in training; `sha256` is of its file, counts are records.

    `samples` can be read, `skipped` could not be used (unreadable, or with a broken image; each
    once), `seen` were handed out over all epochs, `weight` is how often an epoch has each.
    """

    name: str
    version: str = ""
    sha256: str = ""
    licence: str = ""
    samples: int = 0
    skipped: int = 0
    weight: float = 1.0
    seen: int = 0

    @property
    def non_commercial(self) -> bool:
        """Whether its licence, as far as its words tell, forbids commercial use."""
        return NON_COMMERCIAL.search(self.licence) is not None


@dataclass(frozen=True)
class Provenance:
    """What `neva.json` holds. Stage "foreign" is a LLaVA checkpoint that has no `neva.json`.

    `datasets` are in the order of learning, those of the parents first. `parents` are hashes of the
    weights that this checkpoint was made from, the nearest first: what it was made of directly,
    then the parents of that (`descent`).
    """

    stage: Stage
    template: str
    aspect: Aspect = "pad"
    projector: str = "mlp2x_gelu"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[DatasetUsed, ...] = ()
    parents: tuple[str, ...] = ()
    template_source: TemplateSource = "recorded"
    format: int = FORMAT

    @property
    def non_commercial(self) -> str:
        """One sentence if a data set's licence forbids commercial use, else nothing."""
        bound = {used.name: used.licence for used in self.datasets if used.non_commercial}
        if not bound:
            return ""
        named = ", ".join(f"{name} ({licence})" for name, licence in bound.items())
        return f"Not for commercial use: it learned from {named}."

    def descent(self, *direct: str) -> tuple[str, ...]:
        """`parents` of what is made of `direct` (hashes) and of the checkpoint with this origin."""
        return (*direct, *(parent for parent in self.parents if parent not in direct))

    def write(self, folder: Path) -> None:
        """Write `neva.json` into the folder."""
        record = asdict(self)
        del record["template_source"]  # it says how this reading found the template
        text = json.dumps(record, indent=2, ensure_ascii=False, default=str)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_provenance(path: Path) -> Provenance:
    """Read a `neva.json`; CheckpointError names the file and the field that is wrong."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is not a JSON object")
        version = record.get("format")
        if version != FORMAT:
            raise ValueError(f"format {version!r} is not {FORMAT}; use a matching version of neva")
        if record.get("stage") not in get_args(Stage):
            raise ValueError(f"stage {record.get('stage')!r} is not one of {get_args(Stage)}")
        if record.get("aspect") not in get_args(Aspect):
            raise ValueError(f"aspect {record.get('aspect')!r} is not one of {get_args(Aspect)}")
        if not isinstance(record.get("template"), str):
            raise ValueError('it has no "template"')
        record["datasets"] = tuple(DatasetUsed(**used) for used in record.get("datasets", ()))
        record["parents"] = tuple(record.get("parents", ()))
        return Provenance(**record)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read as neva's provenance: {error}") from error
