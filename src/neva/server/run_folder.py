"""A folder of one run of the server, gone with it: also after `kill -9`, when the next one starts.

Whether a run is alive is told by the lock on a file in its folder, which ends with the process. A
folder without one (made this moment, or on a file system without locks) is left alone for a while.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from neva.errors import NevaError

LOCK = "lock"
UNLOCKED_SECONDS = 48 * 3600
"""A folder without a lock is another run's until nothing has been put there for so long."""


class RunFolder:
    """A new folder whose name begins with `prefix`, in `parent` or the system's temporary one."""

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        try:
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as error:
            raise NevaError(
                f"{parent or tempfile.gettempdir()} cannot be written ({error.strerror}): name a "
                "folder that can by --data"
            ) from None
        self._lock = _locked(self.path / LOCK, os.O_CREAT)
        if self._lock is None:  # no locks here: then a file must not say that nobody holds it
            (self.path / LOCK).unlink(missing_ok=True)
        for other in self.path.parent.glob(f"{prefix}*"):
            if other != self.path:
                _sweep(other)

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(file: Path, flags: int = 0) -> int | None:
    """The open file, locked; None if another holds it, or if it cannot be locked."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(folder: Path) -> None:
    """Delete a folder that an earlier run left; another user's, or a live run's, stays."""
    with contextlib.suppress(OSError):
        about = folder.lstat()
        if about.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
            return
        if not (folder / LOCK).exists():
            if time.time() - about.st_mtime > UNLOCKED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            return
        lock = _locked(folder / LOCK)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
