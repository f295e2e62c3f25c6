"""Folders in the cache that say how large their files are, so that a loss is noticed.

What lies in a cache can be made again, but only by somebody who notices that it is damaged: a file
deleted, or cut short by a full disk. Sizes tell that in a millisecond; bytes would take seconds.
"""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

SIZES = "sizes.json"


def seal(folder: Path) -> None:
    """Write down the sizes of the files that lie in it; the last thing to do before it is used."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
    (folder / SIZES).write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")


def whole(folder: Path) -> bool:
    """Whether it was sealed and all its files are there as they were, by their sizes.

    What an older neva made was never sealed, and is made anew once.
    """
    try:
        sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def put_in_place(made: Path, place: Path) -> None:
    """The sealed folder `made` becomes `place`, instead of what is there and is not whole.

    If another process was faster, what it made stays.
    """
    with tempfile.TemporaryDirectory(
        prefix=f".{place.name}-", dir=place.parent, ignore_cleanup_errors=True
    ) as away:
        damaged = Path(away) / "damaged"
        if not whole(place):
            with suppress(FileNotFoundError):
                place.rename(damaged)
        if whole(damaged):  # another process has put it there in between
            with suppress(OSError):
                damaged.rename(place)
        try:
            made.rename(place)
        except OSError:
            if not whole(place):
                raise
