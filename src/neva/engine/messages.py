"""What the serving process and the engine's process say to each other, pickled over a socket."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from neva.engine.precision import Weights
from neva.engine.protocol import Sampling
from neva.images.recipe import PixelRecipe


@dataclass(frozen=True)
class Setup:
    """The first message. `folder` None: build the graphs of `checkpoint` first.

    `spelled`: every token's bytes, for grammars, whose texts end with the token `end`; a request
    waits `grammar_seconds` at most while its grammar is compiled.
    """

    checkpoint: str
    template: str
    weights: Weights
    folder: str | None
    language: Mapping[str, str]
    vision: Mapping[str, str]
    pixels: PixelRecipe
    cache_blocks: int
    image_cache_bytes: int
    threads: int | None
    spelled: tuple[bytes, ...] | None = None
    end: int = 0
    grammar_seconds: float = 60.0


@dataclass(frozen=True)
class Picture:
    """One image by its name, which says whose it is and what it shows, and where its tokens start.

    Its pixels are sent when they are wanted: a picture that was seen before costs nothing.
    """

    name: str
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
class Want:
    """Send the pixels of these pictures of a request: they are not known yet.

    `unseen` counts its pictures that are not encoded; another request may have sent their pixels.
    """

    key: int
    names: tuple[str, ...]
    unseen: int = 0


@dataclass(frozen=True)
class Pixels:
    """What was wanted: uint8 (H, W, 3) by name."""

    squares: Mapping[str, NDArray[Any]]


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
    """New tokens of a request; `finish` with the last ones; `logprobs` where asked for."""

    key: int
    tokens: tuple[int, ...]
    finish: Literal["stop", "length"] | None
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Failed:
    """One request failed; the others go on. `asker`: it would fail again, for what it asks."""

    key: int
    sentence: str
    asker: bool = False


class RequestError(ValueError):
    """One request cannot be answered; the sentence is ours, and the asker may read it."""


@dataclass(frozen=True)
class Counts:
    """Since the process began: pictures asked for, those that were known; now: bytes of pictures
    kept, and the share (0 to 1) of the KV cache that requests under way hold."""

    images: int = 0
    known_images: int = 0
    image_bytes: int = 0
    cache_share: float = 0.0


@dataclass(frozen=True)
class Spoken:
    """Everything that one step gave."""

    news: tuple[Tokens | Failed, ...]
    counts: Counts
