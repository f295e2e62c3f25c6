"""Where this user's machine keeps what can be made again: the default model, exported graphs.

A container's user may have no home, or one that cannot be written. What is made then lies in a
temporary folder that is deleted when the process ends; one that a killed process left, by the next.
"""

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

from neva.errors import NevaError

CACHE = "XDG_CACHE_HOME"
PREFIX = "neva-cache-"
UNLOCKED_SECONDS = 60
"""A temporary folder as young as this may be another process's that is about to lock it."""

_log = logging.getLogger("neva.cache")


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/neva`, or `~/.cache/neva`. Not created here.

    Where the home can have none, a temporary folder becomes the variable's value, so that later
    calls and the engine's process find it too. NevaError if there is no place for that either.
    """
    folder = home() / ".cache" / "neva"
    root = os.environ.get(CACHE)
    if root:
        return Path(root) / "neva"
    if writable(folder) or _filled(folder):
        return folder
    made = _temporary()
    os.environ[CACHE] = str(made)
    return made / "neva"


def home() -> Path:
    """This user's; / without HOME and for a user id without a name, as container runtimes say.

    HOME says so from then on: the engine's process could not import OpenVINO without one.
    """
    try:
        return Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"
        return Path("/")


def writable(folder: Path) -> bool:
    """Whether files can be made in it, or it can be made itself."""
    for place in (folder, *folder.parents):
        try:
            place.lstat()
        except OSError:  # not there, or below a folder that is closed to us
            continue
        return os.access(place, os.W_OK | os.X_OK)
    return False


def _filled(folder: Path) -> bool:
    """Whether it has something to be read: an image may have been built with the model in it."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _temporary() -> Path:
    """A new folder that only this user can enter, whose name nobody could foresee."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        raise NevaError(
            "there is no place for the default model and graphs: neither a home folder nor a "
            f"temporary one can be written ({error.strerror}); set {CACHE} to a folder that can"
        ) from None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps either
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)  # until the process ends
    for other in folder.parent.glob(f"{PREFIX}*"):
        _sweep(other)
    _log.warning(
        "no home folder can be written: what is made lies in %s until this process ends; "
        "set %s to a folder that lasts",
        folder,
        CACHE,
    )
    return folder


def _sweep(folder: Path) -> None:
    """Delete what a killed process of this user left; a live one's is locked."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            about = os.fstat(descriptor)
            if about.st_uid == os.getuid() and time.time() - about.st_mtime > UNLOCKED_SECONDS:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
