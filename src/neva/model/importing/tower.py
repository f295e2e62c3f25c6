"""The CLIP of an import: from `--vision` or the name in the source, or its weights from within."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, CLIPVisionConfig

from neva.errors import CheckpointError
from neva.model.importing.folder import file_tensors, files_of_weights, local_folder
from neva.model.importing.found import Tower
from neva.model.importing.raw import Raws
from neva.model.keys import VISION
from neva.model.quiet import quiet_transformers
from neva.model.source import part_config, why
from neva.model.vision import KINDS, colours

_PARTS = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
_BUFFER = ".position_ids"
REMEDY = "give the CLIP that it was trained with by --vision: a directory or a hub name"


def read_tower(option: str | None, named: str | None, inside: Raws, source: Path) -> Tower:
    """The tower of a checkpoint at `source` that names `named` and holds `inside` (disk names).

    `option` is the user's word and goes before the name. Weights from within go before all others;
    of the CLIP then only the configuration is read.
    """
    place = option or named
    if not place:
        raise CheckpointError(f"{source}: it does not say which CLIP it sees with; {REMEDY}.")
    try:
        return _tower(place, inside)
    except CheckpointError as error:
        if option:
            raise
        raise CheckpointError(f"{source} names a CLIP: {error} Or {REMEDY}.") from error


def _tower(place: str, inside: Raws) -> Tower:
    config = _config(place)
    mean, std = colours(place)
    if inside:
        return Tower(place, config, inside, mean, std)
    files = files_of_weights(local_folder(place))
    tensors = {}
    for file in files:
        for name, raw in file_tensors(file).items():
            own = name.removeprefix("vision_model.")
            if own.startswith(_PARTS) and not own.endswith(_BUFFER):
                tensors[VISION + own] = raw
    return Tower(place, config, tensors, mean, std, files)


def _config(place: str) -> dict[str, Any]:
    """The vision half's configuration; CheckpointError for what is no CLIP."""
    folder = local_folder(place)
    try:
        with quiet_transformers():
            kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
            if kind in KINDS:
                return part_config(CLIPVisionConfig.from_pretrained(folder).to_dict())
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{place}: cannot be read as a CLIP: {why(place, error)}.") from error
    raise CheckpointError(f"{place}: a {kind!r} model is not a vision tower that neva takes.")
