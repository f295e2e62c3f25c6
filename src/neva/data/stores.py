"""Where pictures lie: folders, tar and zip archives, sharded sets, several of these at once.

Every picture comes through the one door, `neva.images.read_image`, whatever it was stored in, and
nothing is unpacked. A name is a path inside the store, as the training file writes it.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from neva.data.archive_index import Member
from neva.data.archives import Archive, labels
from neva.errors import DataError, ImageError
from neva.images import Limits, RGBImage, read_image

Stamp = tuple[str, int, int]
"""(where the store lies, size in bytes, a number that changes with the file): tells undecoded a
picture that has changed, or has the name of one in another place."""

BRACES = re.compile(r"\{([^{}]+)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


class ImageStore(Protocol):
    """Pictures by name. Used from several threads."""

    def read(self, name: str, limits: Limits = ...) -> RGBImage:
        """Decode a picture. Raises ImageError, naming where it is looked for."""
        ...

    def stamp(self, name: str) -> Stamp | None:
        """What tells this picture from a changed one; None if it is not here."""
        ...

    def where(self, name: str) -> str:
        """The place of a picture, for people."""
        ...


@dataclass(frozen=True)
class Folder:
    """Pictures in files under `path`."""

    path: Path

    def read(self, name: str, limits: Limits = Limits()) -> RGBImage:
        return read_image(self.path / name, limits)

    def stamp(self, name: str) -> Stamp | None:
        try:
            told = (self.path / name).stat()
        except (OSError, ValueError):
            return None
        return self._root, told.st_size, told.st_mtime_ns

    @cached_property
    def _root(self) -> str:
        return str(self.path.resolve())

    def where(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True)
class Packed:
    """Pictures in archives, `inside` a folder of theirs; the first archive that has it counts.

    Of several archives a name may begin with the one that is meant: `shard-001.tar/0001.jpg`.
    """

    archives: tuple[Archive, ...]
    inside: str = ""

    @cached_property
    def homes(self) -> dict[str, int]:
        """In which archive every name is."""
        return {
            name: place
            for place, archive in reversed(list(enumerate(self.archives)))
            for name in archive.index.names
        }

    @cached_property
    def _labels(self) -> dict[str, int]:
        """Which archive a name's beginning means; none where there is but one."""
        names = labels(self.archives) if len(self.archives) > 1 else ()
        return {label: place for place, label in enumerate(names)}

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        return tuple(str(archive.path.resolve()) for archive in self.archives)

    @cached_property
    def times(self) -> tuple[int, ...]:
        """When every archive was changed, in nanoseconds."""
        return tuple(archive.path.stat().st_mtime_ns for archive in self.archives)

    def read(self, name: str, limits: Limits = Limits()) -> RGBImage:
        found = self._find(name)
        if found is None:
            raise ImageError(f"{self.where(name)} does not exist; check the path of the image")
        place, key, member = found
        archive = self.archives[place]
        full = f"{archive.path}:{key}"
        if member.size > limits.bytes:
            raise ImageError(
                f"{full} has {member.size:,} bytes, more than the {limits.bytes:,} allowed; make "
                "it smaller"
            )
        try:
            data = archive.read(member)
        except (DataError, OSError) as error:
            raise ImageError(f"{full} cannot be read: {error}") from None
        return read_image(data, limits, full)

    def stamp(self, name: str) -> Stamp | None:
        found = self._find(name)
        if found is None:
            return None
        place, _, member = found
        changes = self.times[place] ^ member.offset ^ member.check << 20
        return self._roots[place], member.size, changes

    def where(self, name: str) -> str:
        place, key = self._named(name)
        if place is not None:
            return f"{self.archives[place].path}:{key}"
        more = f" (or {len(self.archives) - 1} more)" if len(self.archives) > 1 else ""
        return f"{self.archives[0].path}{more}:{self._key(name)}"

    def _key(self, name: str) -> str:
        return str(PurePosixPath(self.inside) / name)

    def _named(self, name: str) -> tuple[int | None, str]:
        """(the archive with which a name begins, the rest of the name); (None, name) for most."""
        path = PurePosixPath(name)
        for parent in path.parents if self._labels else ():
            place = self._labels.get(str(parent))
            if place is not None:
                return place, str(path.relative_to(parent))
        return None, name

    def _find(self, name: str) -> tuple[int, str, Member] | None:
        """(which archive, the file's name in it, where it is)."""
        place, rest = self._named(name)
        key = self._key(rest)
        place = self.homes.get(key) if place is None else place
        member = None if place is None else self.archives[place].index.find(key)
        return None if place is None or member is None else (place, key, member)


@dataclass(frozen=True)
class Mount:
    """A store whose pictures' names begin with `prefix`/ ("" for all names)."""

    prefix: str
    store: ImageStore

    def inner(self, name: str) -> str | None:
        """The name within the store, or None if it is not one of its names."""
        path = PurePosixPath(name)
        if not self.prefix:
            return str(path)
        return str(path.relative_to(self.prefix)) if path.is_relative_to(self.prefix) else None


@dataclass(frozen=True)
class Mounts:
    """Several stores as one: the first that has a picture of that name gives it."""

    mounts: tuple[Mount, ...]

    def read(self, name: str, limits: Limits = Limits()) -> RGBImage:
        store, inner = self._find(name)
        return store.read(inner, limits)

    def stamp(self, name: str) -> Stamp | None:
        try:
            store, inner = self._find(name)
        except ImageError:
            return None
        return store.stamp(inner)

    def where(self, name: str) -> str:
        return " or ".join(store.where(inner) for store, inner in self._candidates(name)) or name

    def _candidates(self, name: str) -> list[tuple[ImageStore, str]]:
        found = [(mount.store, mount.inner(name)) for mount in self.mounts]
        return [(store, inner) for store, inner in found if inner is not None]

    def _find(self, name: str) -> tuple[ImageStore, str]:
        candidates = self._candidates(name)
        if not candidates:
            prefixes = ", ".join(f"{mount.prefix}/" for mount in self.mounts)
            raise ImageError(f"{name} is in none of the images' places ({prefixes}); add its place")
        if len(candidates) == 1:
            return candidates[0]
        for store, inner in candidates:
            if store.stamp(inner) is not None:
                return store, inner
        raise ImageError(f"{self.where(name)} does not exist; check the path of the image")


def open_images(places: Path | str | Sequence[Path | str]) -> ImageStore:
    """Open `PLACE`s, each a folder, an archive, a folder in one, or shards; `PREFIX=PLACE` too.

    `PLACE` is `DIR`, `FILE.tar`, `FILE.zip`, `FILE.zip/folder/in/it` or
    `shards-{000..009}.tar`; what a file is, is told by its bytes. With `PREFIX=` the place holds
    the names that begin with `PREFIX/`. Raises DataError if there is nothing.
    """
    several = [places] if isinstance(places, Path | str) else list(places)
    mounts = [_mount(place) for place in several]
    if len(mounts) == 1 and not mounts[0].prefix:
        return mounts[0].store
    return Mounts(tuple(mounts))


def expand(pattern: str) -> list[str]:
    """`a-{00..02}.tar` -> the three names, `{x,y}` -> both; zeros in front are kept."""
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    span = RANGE.fullmatch(found[1])
    if span is not None:
        first, last = int(span[1]), int(span[2])
        items = [str(n).zfill(len(span[1])) for n in range(first, last + 1)]
    else:
        items = found[1].split(",")
    rest = expand(pattern[found.end() :])
    head = pattern[: found.start()]
    return [head + item + tail for item, tail in itertools.product(items, rest)]


def open_archives(pattern: str) -> tuple[tuple[Archive, ...], str] | None:
    """(archives, folder inside) of `FILE`, `FILE/inside` or a brace pattern; None if not archives.

    Raises DataError where only some of the shards are there, or are archives.
    """
    paths = [Path(name) for name in expand(pattern)]
    if len(paths) > 1:
        absent = [path for path in paths if not path.exists()]
        if absent:
            raise DataError(f"{absent[0]} does not exist; check the pattern {pattern}")
    first = next(
        (place for place in (paths[0], *paths[0].parents) if place.is_file()),
        None,
    )
    if first is None:
        return None
    opened = [Archive.open(path if len(paths) > 1 else first) for path in paths]
    archives = tuple(archive for archive in opened if archive is not None)
    if not archives:
        return None
    if len(archives) < len(opened):
        raise DataError(f"{pattern}: not all of these are tar or zip archives; give only archives")
    inside = "" if len(paths) > 1 else paths[0].relative_to(first).as_posix()
    return archives, "" if inside == "." else inside


def _mount(place: Path | str) -> Mount:
    """One `[PREFIX=]PLACE`."""
    text = str(place)
    prefix, equals, rest = text.partition("=")
    if equals and not Path(text).exists():
        return Mount(prefix.strip("/"), _store(rest))
    return Mount("", _store(text))


def _store(text: str) -> ImageStore:
    if Path(text).is_dir():
        return Folder(Path(text))
    try:
        opened = open_archives(text)
    except OSError:
        opened = None
    if opened is None:
        what = (
            "is neither a folder nor a tar or zip archive"
            if Path(text).exists()
            else ("does not exist: no such folder or archive")
        )
        raise DataError(f"{text} {what}; give the images' place with --images")
    store = Packed(*opened)
    if store.inside and not any(name.startswith(f"{store.inside}/") for name in store.homes):
        raise DataError(f"{store.archives[0].path} has no folder {store.inside!r}; look inside")
    return store
