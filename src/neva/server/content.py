"""Messages of every form in the field -> one Conversation and its images. Runs in reading threads.

An image may be a content part (a string or an object), an `<img src="...">` tag in a string or in a
text part, a data URI, an asset id or an allowed URL: all become an ImageSlot and an RGBImage. Text
that merely looks like an image placeholder stays text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.requests import Request

from neva.errors import ImageError, PromptError
from neva.images import ImageSource, RGBImage, read_image, split_tags
from neva.images import Limits as ImageLimits
from neva.prompts.conversation import Conversation, ImageSlot, Part, Role, Turn
from neva.server.album import Album
from neva.server.assets import Assets
from neva.server.decoded import DecodedImages
from neva.server.fetch import Fetcher
from neva.server.fetching import Unfetched
from neva.server.file_store import FileStore
from neva.server.schemas import Content, Message, TextPart
from neva.server.settings import Settings


@dataclass(frozen=True)
class FileSource:
    """A picture of the files API, by its id."""

    id: str


Source = ImageSource | FileSource


@dataclass(frozen=True)
class Said:
    """What a request says; `images[slot.index]` belongs to `slot`.

    `owner`: whose requests find these images encoded; "" for everybody's.
    """

    conversation: Conversation
    images: tuple[RGBImage, ...]
    owner: str = ""


class Opener(Protocol):
    """Opens the images that a conversation names, one after the other."""

    @property
    def sharers(self) -> str:
        """Whose requests find these images encoded; "" for everybody's."""
        ...

    def fetch_first(self, sources: Sequence[Source]) -> None:
        """Unfetched, once, if some of `sources` must be waited for."""
        ...

    def take(self, source: Source) -> ImageSlot:
        """Open the image of `source`; NevaError or ApiError says which one and why not."""
        ...

    def all(self) -> tuple[RGBImage, ...]:
        """What was opened, in the order of the slots."""
        ...


class Images:
    """The images of one request, opened for its owner as they are met."""

    def __init__(
        self,
        owner: str,
        settings: Settings,
        assets: Assets,
        files: FileStore,
        decoded: DecodedImages | None = None,
    ) -> None:
        self._owner = owner
        self._decoded = decoded or DecodedImages()
        self.sharers: str = "" if settings.share_images else owner
        self._limit = settings.limits.images
        self._album = Album(settings.limits)
        self._asset_limits = ImageLimits(bytes=settings.limits.asset_bytes)
        self._assets = assets
        self._files = files
        self._fetcher = Fetcher(settings.images_from)
        self._fetched: dict[str, bytes | ImageError] | None = None

    def fetch_first(self, sources: Sequence[Source]) -> None:
        """Unfetched if some of `sources` are URLs, the first time: reading must not wait."""
        first = [s.url for s in sources[: self._limit] if isinstance(s, ImageSource)]
        urls = [url for url in first if _is_web(url)]
        if self._fetched is None and urls and self._fetcher.hosts:

            def fetch() -> None:
                self._fetched = self._fetcher.fetch_all(urls)

            raise Unfetched(fetch)

    def take(self, source: Source) -> ImageSlot:
        """Open the image of `source`; ApiError or ImageError says which one and why not."""
        return self._album.add(lambda: self._open(source))

    def all(self) -> tuple[RGBImage, ...]:
        """What was opened, in the order of the slots; kept here no longer, as answers are long."""
        self._fetched = {}
        return self._album.emptied()

    def _open(self, source: Source) -> RGBImage:
        if isinstance(source, FileSource):
            return self._decoded.read(self.sharers, self._files.data(self._owner, source.id))
        if source.asset_id is not None:
            return read_image(
                self._assets.data(self._owner, source.asset_id),
                self._asset_limits,
                f"asset {source.asset_id[:40]}",
            )
        if source.is_data:
            return self._decoded.read_uri(self.sharers, source)
        if _is_web(source.url):
            if not self._fetcher.hosts:
                raise ImageError(
                    "this server fetches no images from URLs; send it as data:image/...;base64,..."
                )
            data = (self._fetched or {}).get(source.url, ImageError("it was not fetched"))
            if isinstance(data, ImageError):
                raise data
            return read_image(data)
        raise ImageError(
            "the image is neither a data URI (data:image/png;base64,...) nor an asset "
            "(data:image/png;asset_id,ID)"
        )


def _is_web(url: str) -> bool:
    return url[:7].lower() == "http://" or url[:8].lower() == "https://"


class Door:
    """Gives every request its `Images`."""

    def __init__(self, settings: Settings, assets: Assets, files: FileStore) -> None:
        self._settings = settings
        self._assets = assets
        self._files = files
        self._decoded = DecodedImages()

    def for_request(self, http: Request) -> Images:
        """The images of `http`, which belong to its key."""
        owner = http.state.owner
        return Images(owner, self._settings, self._assets, self._files, self._decoded)


def read_messages(
    messages: Sequence[Message], labels: Mapping[str, int] | None, images: Opener
) -> Said:
    """The conversation and its opened images.

    System messages, wherever they come, are the system text. Messages of the same role in a row
    are one turn. A last assistant message is the beginning of the answer; `labels` there or beside
    the messages steer it. Where no user speaks first, an empty turn does: templates alternate.
    Unfetched, once, if images are to be fetched.
    """
    spoken = [message for message in messages if message.role not in ("system", "developer")]
    system = _system([message for message in messages if message.role in ("system", "developer")])
    said = [_pieces(message.content) for message in spoken]
    images.fetch_first([piece for pieces in said for piece in pieces if not isinstance(piece, str)])
    turns: list[Turn] = []
    for number, message in enumerate(spoken, 1):
        if message.content is None and (message.role == "user" or number < len(spoken)):
            raise PromptError("content may be left out of a last assistant message only")
        turn = Turn(_role(message), _parts(said[number - 1], images), message.labels)
        if turns and turns[-1].role == turn.role:
            joined = _joined(turns[-1].parts, turn.parts)
            turns[-1] = replace(turns[-1], parts=joined, labels=turn.labels or turns[-1].labels)
        else:
            turns.append(turn)
    if not turns or turns[0].role != "user":
        turns.insert(0, Turn("user", ()))
    if labels:
        if turns[-1].role == "user":
            turns.append(Turn("assistant", ()))
        turns[-1] = replace(turns[-1], labels=turns[-1].labels or dict(labels))
    turns = [replace(t, parts=arranged(t.parts)) if t.role == "user" else t for t in turns]
    return Said(Conversation(tuple(turns), system), images.all(), images.sharers)


def _role(message: Message) -> Role:
    return "user" if message.role == "user" else "assistant"


def _system(messages: Sequence[Message]) -> str | None:
    """The system messages' text; None without any. PromptError if one has images."""
    texts: list[str] = []
    for message in messages:
        for piece in _pieces(message.content):
            if not isinstance(piece, str):
                raise PromptError("a system message cannot hold an image; put it into a user's")
            texts.append(piece)
    return "\n\n".join(texts) if messages else None


def _pieces(content: Content | None) -> list[str | Source]:
    """Content of any form as texts and image sources, in order."""
    if content is None:
        return []
    if isinstance(content, str):
        return [_stripped(piece) for piece in split_tags(content)]
    pieces: list[str | Source] = []
    for part in content:
        if isinstance(part, TextPart):
            pieces.extend(_stripped(piece) for piece in split_tags(part.text))
        elif part.file_id is not None:
            pieces.append(FileSource(part.file_id))
        else:
            pieces.append(ImageSource((part.url or "").strip()))
    return pieces


def _stripped(piece: str | ImageSource) -> str | Source:
    return piece if isinstance(piece, str) else ImageSource(piece.url.strip())


def _parts(pieces: Sequence[str | Source], images: Opener) -> tuple[Part, ...]:
    return tuple(piece if isinstance(piece, str) else images.take(piece) for piece in pieces)


def _joined(first: tuple[Part, ...], second: tuple[Part, ...]) -> tuple[Part, ...]:
    """Two messages as one turn, on lines of their own."""
    return (*first, "\n", *second) if first and second else first or second


def arranged(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """A user's turn as the model was trained on it: images, a line break, the text.

    That is LLaVA's order, whichever way round it was sent. Images between texts stay there.
    """
    slots = [part for part in parts if isinstance(part, ImageSlot)]
    places = [place for place, part in enumerate(parts) if isinstance(part, ImageSlot)]
    if not slots or places != list(range(places[0], places[0] + len(places))):
        return parts
    text = "".join(part for part in parts if isinstance(part, str))
    before, after = parts[: places[0]], parts[places[-1] + 1 :]
    if any(str(part).strip() for part in before) and any(str(part).strip() for part in after):
        return parts
    text = text.strip()
    return (*slots, f"\n{text}") if text else tuple(slots)
