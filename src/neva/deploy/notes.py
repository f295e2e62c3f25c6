"""What only a model's maker can say about it, and the fields a model card asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate.files import read_json

UNSAID = "Not stated by the maker"

# The subcards' fields of NVIDIA's card (Model Card++) that a maker answers. What the checkpoint
# tells itself (how it works, provenance, metrics) is written by the card.
SUBCARDS: Mapping[str, tuple[str, ...]] = {
    "Explainability": (
        "Intended application & domain",
        "Intended users",
        "Adversely impacted groups tested for comparable outcomes",
        "Technical limitations",
        "Potential known risks",
        "Verified to have met prescribed quality standards",
        "Licensing",
    ),
    "Bias": (
        "Participation considerations from adversely impacted groups in design and testing",
        "Measures taken to mitigate against unwanted bias",
    ),
    "Privacy": (
        "Generatable or reverse engineerable personally-identifiable information",
        "Protected class data used to create this model",
        "Was consent obtained for any personal data used",
        "How often are the data sets reviewed",
        "Is a mechanism in place to honor requests for access to or deletion of personal data",
        "If personal data was collected, was it collected by the maker",
        "If personal data was collected, are disclosures to the persons available",
        "If personal data was collected, was it minimized to what was required",
        "Does data labeling (annotation, metadata) comply with privacy laws",
        "Is data compliant with requests for data correction or removal",
    ),
    "Safety & Security": (
        "Model applications",
        "Describe the physical safety impact (if present)",
        "Use case restrictions",
        "Model and dataset restrictions",
    ),
}
SOURCE_FIELDS = ("name", "version", "licence", "artist", "use", "count")


@dataclass(frozen=True)
class Notes:
    """The maker's words. `sources` are the works behind the data (SOURCE_FIELDS, all text);
    `references` are (title, address); `fields` answers a subcard's fields, by subcard. `training`
    is about all data, `pretraining` and `finetuning` about each stage's (what it holds, how it was
    made, licences); `speed` tells sizes and times.
    """

    name: str
    description: str = ""
    version: str = ""
    licence: str = ""
    references: tuple[tuple[str, str], ...] = ()
    sources: tuple[Mapping[str, str], ...] = ()
    training: str = ""
    pretraining: str = ""
    finetuning: str = ""
    evaluation: str = ""
    hardware: str = ""
    speed: str = ""
    ethics: str = ""
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_notes(path: Path | None, name: str) -> Notes:
    """The maker's notes, a JSON object; the name is the checkpoint's where they give none."""
    if path is None:
        return Notes(name)
    found = read_json(path)
    known = tuple(Notes.__dataclass_fields__)
    if not isinstance(found, dict) or set(found) - set(known):
        raise DataError(f"{path}: only {', '.join(known[:-1])} and {known[-1]} are known.")
    check(path, found)
    given: dict[str, Any] = {"name": name} | found
    given["references"] = tuple((title, address) for title, address in given.get("references", ()))
    given["sources"] = tuple(given.get("sources", ()))
    return Notes(**given)


def check(path: Path, found: Mapping[str, Any]) -> None:
    """DataError unless the notes have the shape that the card writes."""
    for key, value in found.items():
        if key not in ("references", "sources", "fields") and not isinstance(value, str):
            raise DataError(f"{path}: {key} must be text.")
    for source in found.get("sources", ()):
        if not isinstance(source, dict) or set(source) - set(SOURCE_FIELDS):
            raise DataError(f"{path}: a source has {', '.join(SOURCE_FIELDS)} and nothing else.")
    for pair in found.get("references", ()):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{path}: a reference is [title, address].")
    fields = found.get("fields", {})
    if not isinstance(fields, dict) or any(not isinstance(one, dict) for one in fields.values()):
        raise DataError(f"{path}: fields is {{subcard: {{field: response}}}}.")
    unknown = sorted(set(fields) - set(SUBCARDS))
    if unknown:
        known = ", ".join(SUBCARDS)
        raise DataError(f"{path}: no subcard {unknown[0]!r}; there are {known}.")
