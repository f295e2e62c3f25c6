"""What the serving process and the engine's process say to each other, pickled over a socket."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from neva.engine.protocol import Sampling


@dataclass(frozen=True)
class Setup:
    """The first message. `folder` None: build the graphs of `checkpoint` first."""

    checkpoint: str
    template: str
    weights: Literal["int8", "exact"]
    folder: str | None
    language: Mapping[str, str]
    vision: Mapping[str, str]
    cache_blocks: int
    image_cache_bytes: int
    threads: int | None


@dataclass(frozen=True)
class Picture:
    """One image: its identity, float32 (3, H, W), and where its tokens start in the ids."""

    digest: str
    pixels: NDArray[Any]
    start: int


@dataclass(frozen=True)
class Add:
    """A request, checked and encoded. `stop_ids` end it; `key` is unique per process."""

    key: int
    ids: NDArray[Any]
    pictures: tuple[Picture, ...]
    sampling: Sampling
    stop_ids: frozenset[int]


@dataclass(frozen=True)
class Cancel:
    """Forget a request."""

    key: int


@dataclass(frozen=True)
class Ready:
    """The engine's process has loaded the graphs, which lie in `folder`."""

    folder: str


@dataclass(frozen=True)
class Refused:
    """The engine cannot start; `kind` is the exception's class name."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class Tokens:
    """New tokens of a request; `finish` with the last ones."""

    key: int
    tokens: tuple[int, ...]
    finish: Literal["stop", "length"] | None


@dataclass(frozen=True)
class Failed:
    """One request failed; the others go on."""

    key: int
    sentence: str
