"""Everything an operator may decide about the server, in one frozen place.

Kept apart from the command line, so that a test or another program can make an app without one.
"""

from dataclasses import dataclass, field
from pathlib import Path

from neva.images import Limits as ImageLimits
from neva.server.auth import Keys


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may ask of this machine."""

    body_bytes: int = 32 * 1024 * 1024
    """Longest request body. NVCF allows 5 MB; inline photographs of a phone need more."""
    body_seconds: float = 60.0
    """A body that takes longer to arrive is answered with 408 (slow-loris)."""
    messages: int = 1024
    """Most messages of one conversation, as on NVIDIA's sibling endpoints; 16,384 at most."""
    images: int = 16
    """Most images of one conversation."""
    pixels: int = 100_000_000
    """Most pixels of all its images together; three bytes each while they are read."""
    choices: int = 8
    """Largest `n` of one OpenAI request."""
    nvidia_max_tokens: int = 1024
    """Largest `max_tokens` on NVIDIA's route, as hosted; OpenAI's routes go to the context."""
    running: int = 32
    """Answers in the engine at once; the engine batches them."""
    waiting: int = 64
    """Answers that may wait for a place; one more is answered with 429."""
    answer_seconds: float = 600.0
    """Longest time for one answer, once it has its place; then it ends with what it has."""
    send_seconds: float = 30.0
    """A client that stops reading its stream for so long is disconnected."""
    asset_bytes: int = ImageLimits.bytes
    """Largest uploaded asset, and so the largest that is read as an image."""
    file_bytes: int = 20 * 1024 * 1024
    """Largest file of the files API."""
    files: int = 256
    """Most files that one key may keep at once."""
    assets: int = 256
    """Most assets that one key may keep at once."""
    response_bytes: int = 512 * 1024 * 1024
    """Most bytes of stored responses that one key may keep; its oldest go first."""
    chain_bytes: int = 128 * 1024 * 1024
    """Most bytes of stored responses that one conversation may go on from."""


@dataclass(frozen=True)
class Settings:
    """A server's settings. The defaults are right for one person on one machine."""

    host: str = "127.0.0.1"
    """Address to listen on. Another than loopback needs API keys, or `tls_in_front`."""
    port: int = 8000
    """Port to listen on."""
    keys: Keys = field(default_factory=Keys)
    """Who may ask, beside those of `key_file`. No keys at all: everyone who reaches the port."""
    key_file: Path | None = None
    """A file of keys, followed as it changes; even an empty one closes the server."""
    hosts: tuple[str, ...] = ()
    """Accepted names in the Host header; empty: all. Stops DNS rebinding of a local server."""
    tls_in_front: bool = False
    """The operator states that a proxy in front terminates TLS and decides who may pass."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may call the API; none unless given."""
    images_from: tuple[str, ...] = ()
    """Hosts (or ".domain") whose http(s) image URLs may be fetched; none unless given."""
    aliases: tuple[str, ...] = (
        *("nvidia/neva-22b", "neva-22b", "ai-neva-22b", "neva_22b", "playground_neva_22b"),
    )
    """Other names under which the model answers."""
    readers: int = 2
    """Threads that decode images and tokenise, so that the event loop never does."""
    data: Path | None = None
    """Folder of assets, files and stored responses; None: temporary, gone with the server."""
    store: str | None = None
    """A PostgreSQL URL for files and stored responses; None: an SQLite file in `data`."""
    keep_days: float = 30.0
    """How long files and responses are kept."""
    otlp: str | None = None
    """An OpenTelemetry collector's URL (OTLP over HTTP), for traces; None: no traces."""
    share_images: bool = False
    """Images that one key has sent are quick for all keys, who can so tell that they were sent."""
    limits: Limits = field(default_factory=Limits)
    """What a request may ask."""

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""
        return bool(self.keys) or self.key_file is not None
