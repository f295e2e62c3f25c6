"""Writing that survives a kill or a power cut: flush to the disk first, then rename."""

import os
import shutil
from pathlib import Path


def publish(aside: Path, final: Path) -> None:
    """Flush the folder `aside` to the disk and give it its final name, in place of an older one."""
    for file in aside.rglob("*"):
        if file.is_file():
            flush(file)
    flush(aside)
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    flush(final.parent)


def flush(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
