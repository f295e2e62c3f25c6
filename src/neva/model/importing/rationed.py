"""A stream for `tarfile`, which believes a header's word for how long the header is."""

import gzip
import io
from pathlib import Path

from neva.errors import CheckpointError

Stream = gzip.GzipFile | io.BufferedReader
MOST_HEADER = 2**16  # of one member: its long name and whatever else tar writes before its data


class Rationed:
    """Gives `left` bytes and no more; whoever knows what is to be read next sets it anew.

    A header may announce a name of gigabytes, or a chain of thousands of headers, which a small
    gzipped archive holds easily and tarfile would keep in memory.
    """

    def __init__(self, source: Path, stream: Stream) -> None:
        self.source, self.stream, self.left = source, stream, MOST_HEADER

    def read(self, size: int) -> bytes:
        """As of any stream; CheckpointError for more than is left, and for "all of it"."""
        if not 0 <= size <= self.left:
            raise CheckpointError(
                f"{self.source}: it has headers longer than any archive of a model; neva does not "
                "open it."
            )
        self.left -= size
        return self.stream.read(size)

    def write(self, data: bytes) -> int:
        """Asked for by the type of tarfile's argument only."""
        raise OSError(f"{self.source} is only read")

    def seek(self, place: int) -> int:
        """Go to a place, counted from the beginning."""
        return self.stream.seek(place)

    def tell(self) -> int:
        """The place."""
        return self.stream.tell()

    def close(self) -> None:
        """Leave the stream to whoever opened it."""
