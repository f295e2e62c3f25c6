"""Which data sets a run learns from: files on the command line, or a mix file that lists them.

A mix file is TOML, YAML or JSON with a list `datasets`; what a file is, is told by what it says.
Paths in it are relative to the mix file.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from neva.data.stores import ImageStore, open_archives, open_images
from neva.errors import DataError

HEAD = 64 * 1024  # characters of a file in which a mix file must say that it is one
MIX_JSON = re.compile(r'\s*\{\s*"datasets"\s*:')
MIX_TOML = re.compile(r"^\[\[\s*datasets\s*\]\]", re.MULTILINE)
MIX_YAML = re.compile(r"^datasets\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Dataset:
    """One data set of a run."""

    path: str
    """Training file (LLaVA's JSON, JSON lines), or WebDataset shards: `shards-{000..009}.tar`."""
    images: tuple[str, ...] = ()
    """Where its images are, see `neva.data.stores.open_images`; none: in the shards, or nowhere."""
    weight: float = 1.0
    """How many times one pass of the run sees each record; 0.5: half of them, the rest next."""
    name: str = ""
    """For reports and provenance; the file's name if left out."""
    version: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and 0 < self.weight <= 1000):
            raise DataError(f"{self.path} has weight {self.weight}; give a number above 0")
        if not self.name:
            object.__setattr__(self, "name", Path(self.path).name)

    def open_images(self) -> ImageStore | None:
        """The store of its images, or None if no place was given. Raises DataError."""
        if self.images:
            return open_images(self.images)
        return open_images(self.path) if open_archives(self.path) else None


def find_datasets(
    data: Sequence[Path | str | Dataset],
    images: Path | str | Sequence[Path | str] | None = None,
    licences: Sequence[str] = (),
) -> tuple[Dataset, ...]:
    """The data sets that are asked for: `FILE`, `FILE:WEIGHT`, or a mix file, which lists its own.

    `images` are of every data set that names none itself. `licences` are of the files in their
    order; one is for all of them. Raises DataError.
    """
    places = [images] if isinstance(images, Path | str) else list(images or ())
    common = tuple(map(str, places))
    found: list[Dataset] = []
    for item in data:
        if isinstance(item, Dataset):
            found.append(item)
            continue
        path, weight = split_weight(str(item))
        mix = read_mix(Path(path))
        if mix is not None and weight != 1:
            raise DataError(f"{item}: a mix file has weights inside; leave :{weight:g} out")
        found.extend(mix if mix is not None else [Dataset(path, weight=weight)])
    if len(licences) not in (0, 1, len(found)):
        raise DataError(
            f"{len(licences)} licences for {len(found)} training files; give one for each in the "
            "same order, or one for all."
        )
    given = tuple(licences) * (len(found) if len(licences) == 1 else 1) or ("",) * len(found)
    return tuple(
        _with(one, images=one.images or common, licence=one.licence or licence)
        for one, licence in zip(found, given, strict=True)
    )


def open_stores(datasets: Sequence[Dataset]) -> tuple[ImageStore | None, ...]:
    """The image store of every data set; those with the same places share one."""
    opened: dict[object, ImageStore | None] = {}
    for one in datasets:
        key = one.images or one.path
        if key not in opened:
            opened[key] = one.open_images()
    return tuple(opened[one.images or one.path] for one in datasets)


def split_weight(text: str) -> tuple[str, float]:
    """`FILE:2` -> (FILE, 2.0); a file that is really called so is taken as it is."""
    path, colon, end = text.rpartition(":")
    if not colon or Path(text).exists():
        return text, 1.0
    try:
        return path, float(end)
    except ValueError:
        return text, 1.0


def read_mix(path: Path) -> list[Dataset] | None:
    """The data sets that a mix file lists, or None if the file is no mix file. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.read(HEAD)
            kind = _kind(head)
            if kind is None:
                return None
            text = head + file.read()
    except (OSError, UnicodeDecodeError):
        return None  # an archive, or nothing: whoever reads it says so
    raw = _parse(text, kind, path)
    listed = raw.get("datasets") if isinstance(raw, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise DataError(f"{path} is a mix file without a list of datasets; add some")
    return [_dataset(entry, number, path) for number, entry in enumerate(listed, start=1)]


def _kind(head: str) -> str | None:
    if MIX_JSON.match(head):
        return "json"
    if head.lstrip()[:1] == "{":
        return None
    if MIX_TOML.search(head):
        return "toml"
    return "yaml" if MIX_YAML.search(head) else None


def _parse(text: str, kind: str, path: Path) -> Any:
    try:
        if kind == "json":
            return json.loads(text)
        if kind == "toml":
            return tomllib.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is a broken {kind.upper()} mix file: {error}") from None
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(
            f"{path} is YAML, which needs pyyaml (it comes with the train extra); install it or "
            "write TOML"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is a broken YAML mix file: {error}") from None


def _dataset(entry: Any, number: int, mix: Path) -> Dataset:
    """One entry of a mix file."""
    where = f"{mix}, data set {number}"
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        raise DataError(f"{where} has no path; an entry is {{path, images, weight, licence, name}}")
    known = {field.name for field in fields(Dataset)}
    if unknown := sorted(set(entry) - known):
        raise DataError(f"{where} has {unknown[0]!r}, which is none of {', '.join(sorted(known))}")
    values = dict(entry)
    places = values.pop("images", [])
    places = [places] if isinstance(places, str) else places
    texts = [values.get(name, "") for name in ("name", "version", "licence")]
    if not isinstance(places, list) or not all(isinstance(t, str) for t in [*places, *texts]):
        raise DataError(f"{where}: images, name, version and licence are texts; mend it")
    weight = values.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise DataError(f"{where} has weight {weight!r}; give a number above 0")
    values["path"] = _beside(mix, values["path"])
    return Dataset(
        **values, images=tuple(_beside(mix, place) for place in places), weight=float(weight)
    )


def _beside(mix: Path, place: str) -> str:
    """`[PREFIX=]PLACE`, its place relative to the mix file."""
    prefix, equals, rest = place.partition("=")
    if equals:
        return f"{prefix}={mix.parent / rest}"
    return str(mix.parent / place)


def _with(one: Dataset, **values: Any) -> Dataset:
    return Dataset(**{**vars(one), **values})
