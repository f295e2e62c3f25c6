"""What LLaVA's folders and NeMo's archives have in common: projectors, and how pictures are cut."""

import reprlib
from collections.abc import Mapping
from pathlib import Path

import torch

from neva.errors import CheckpointError
from neva.model.importing.raw import Raw, Raws, held
from neva.model.keys import PROJECTOR
from neva.model.kinds import ACTIVATIONS, ProjectorKind
from neva.model.provenance import Aspect

# As LLaVA and NeMo name the layers of a projector -> as Hugging Face's class does.
_NAMES: Mapping[ProjectorKind, Mapping[str, str]] = {
    "mlp2x_gelu": {"0": "linear_1", "2": "linear_2"},
    "linear": {"": "linear_1"},
}


def projector_kind(source: Path, said: object) -> ProjectorKind:
    """The kind of projector that the configuration names; unsaid, it is one linear map."""
    for kind in ACTIVATIONS:
        if said == kind or (said is None and kind == "linear"):
            return kind
    raise CheckpointError(
        f"{source}: its projector is a {reprlib.repr(said)}; neva holds these: "
        f"{', '.join(ACTIVATIONS)}."
    )


def projector_tensors(source: Path, kind: ProjectorKind, found: Raws) -> dict[str, Raw]:
    """The projector by disk names, from tensors named "0.weight" (or "weight", of a linear one).

    A linear one gets the identity as its second layer (`neva.model.projector`). CheckpointError for
    missing or unknown layers.
    """
    ours = {
        f"{layer}.{end}".lstrip("."): f"{PROJECTOR}{name}.{end}"
        for layer, name in _NAMES[kind].items()
        for end in ("weight", "bias")
    }
    if set(found) != set(ours):
        raise CheckpointError(
            f"{source}: a {kind} projector has the tensors {', '.join(sorted(ours))}, and this one "
            f"has {', '.join(sorted(found)) or 'none'}; the files do not belong together."
        )
    tensors = {ours[name]: raw for name, raw in found.items()}
    if kind == "linear":
        like = tensors[f"{PROJECTOR}linear_1.weight"]
        width, dtype, place = like.shape[0], like.dtype, "the identity"
        tensors[f"{PROJECTOR}linear_2.weight"] = held(torch.eye(width, dtype=dtype), place)
        tensors[f"{PROJECTOR}linear_2.bias"] = held(torch.zeros(width, dtype=dtype), place)
    return tensors


def picture_aspect(source: Path, said: object) -> Aspect:
    """How a picture becomes a square, by the configuration's word."""
    if said in (None, "square"):
        return "square"
    if said == "pad":
        return "pad"
    raise CheckpointError(
        f"{source}: it cuts pictures by image_aspect_ratio {reprlib.repr(said)}; neva takes pad "
        "and square."
    )
