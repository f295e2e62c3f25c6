"""The weights of a folder as Hugging Face's and LLaVA's programs save them, whatever the format.

safetensors where there are any, else torch's pickles (`pickles`); whole or in shards. A hub name
becomes the folder in its cache, with no more downloaded than is read.
"""

import json
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from neva.errors import CheckpointError
from neva.model.importing.pickles import read_pickle
from neva.model.importing.raw import Raw, stored
from neva.model.source import check_source
from neva.model.stored import Stored
from neva.model.weights import INDEX, SINGLE, plain_name, read_entries, weight_files

BIN = "pytorch_model.bin"
BIN_INDEX = "pytorch_model.bin.index.json"
_SMALL = ("config.json", "generation_config.json", "preprocessor_config.json")


def local_folder(source: str | Path, *more: str) -> Path:
    """The folder of a local path or hub name, with its small files, its weights and `more`.

    CheckpointError where there is no such thing. Files of `more` may be missing.
    """
    if not str(source):  # a Path of it would be the folder that the user is in
        raise CheckpointError("A source is named by an empty text; give a directory or a hub name.")
    check_source(source)
    if Path(source).exists():
        return Path(source)
    config = _cached(source, _SMALL[0])
    if config is None:
        raise CheckpointError(
            f"{source}: no such directory, and no model of this name can be had from the hub."
        )
    for name in (*_SMALL[1:], *more):
        _cached(source, name)
    for index, single in ((INDEX, SINGLE), (BIN_INDEX, BIN)):
        listed = _cached(source, index)
        if listed is not None:
            for shard in _listed(listed):
                _cached(source, shard)
        if listed is not None or _cached(source, single) is not None:
            break
    return config.parent


def has_weights(folder: Path) -> bool:
    """Whether a whole model's weights are there, by the names of their files."""
    return any((folder / name).is_file() for name in (INDEX, SINGLE, BIN_INDEX, BIN))


def files_of_weights(folder: Path) -> tuple[Path, ...]:
    """The files that `folder_tensors` reads; CheckpointError where there are none or not all."""
    if any((folder / name).is_file() for name in (INDEX, SINGLE)):
        return weight_files(folder)
    if (folder / BIN_INDEX).is_file():
        files = tuple(folder / name for name in _listed(folder / BIN_INDEX))
    elif (folder / BIN).is_file():
        files = (folder / BIN,)
    else:
        raise CheckpointError(
            f"{folder}: it has no weights ({SINGLE}, {BIN} or an index of shards); copy it again."
        )
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{folder}: {file.name} is named in {BIN_INDEX} but not there.")
    return files


def folder_tensors(folder: Path) -> dict[str, Raw]:
    """Every tensor by its own name, unread; CheckpointError where one is there twice."""
    found: dict[str, Raw] = {}
    for file in files_of_weights(folder):
        for name, raw in file_tensors(file).items():
            if name in found:
                raise CheckpointError(f"{raw.place} is there twice, also in {found[name].place}.")
            found[name] = raw
    return found


def file_tensors(file: Path) -> dict[str, Raw]:
    """The tensors of one file, safetensors or torch's pickle."""
    if file.suffix == ".safetensors":
        return {entry.name: stored(Stored(entry)) for entry in read_entries(file)}
    return read_pickle(file)


def _cached(source: str | Path, name: str) -> Path | None:
    found: Any = cached_file(
        str(source),
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def _listed(index: Path) -> list[str]:
    """The names of the shards; CheckpointError for one that leads out of the folder."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({plain_name(name) for name in places})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index}: not an index of weights ({error}); copy it again."
        ) from error
