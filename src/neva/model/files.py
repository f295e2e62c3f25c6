"""Writing a directory all or nothing, and the JSON and text files of a checkpoint.

A checkpoint is written aside and renamed when it is whole, so that a failure leaves nothing behind.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neva.errors import CheckpointError

# What travels with the weights from checkpoint to checkpoint. neva.json and the weights do not.
CARRIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out` that becomes `out` when the block ends without an error.

    CheckpointError if `out` exists already and is not an empty directory. After an error neither
    the folder is left nor the parents that were made for it.
    """
    check_free(out)
    place = out.resolve()  # beside what a link leads to, where a rename can put it
    with made_folder(place.parent), full_disk_named(place.parent):
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            yield aside
            _publish(aside)
            check_free(out)
            aside.replace(place)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; those that were made are gone again if the block fails."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:  # the deepest first
            with suppress(OSError):  # something else is in it by now
                path.rmdir()
        raise


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Let the error of a full disk say which one: that of `write` names neither file nor folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        words = f"{error.strerror}; make room there or choose another output folder"
        raise OSError(error.errno, words, str(folder)) from error


def check_room(folder: Path, needed: int) -> None:
    """CheckpointError unless the disk that `folder` is on has room for so many bytes more."""
    disk = shutil.disk_usage(folder)
    if disk.total and needed > disk.free:  # some network's disks do not say how large they are
        raise CheckpointError(
            f"{folder}: {needed / 1e6:,.1f} MB are to be written there, and the disk has "
            f"{disk.free / 1e6:,.1f} MB free; make room there or choose another output folder."
        )


def check_free(out: Path) -> None:
    """CheckpointError if something is at `out` that writing there would destroy."""
    if out.is_dir() and out.samefile(Path()):
        raise CheckpointError(
            f"{out}: is the folder that you are in, which cannot be replaced; choose another "
            "output folder."
        )
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out}: already exists; remove it or choose another output folder.")


def write_json(file: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object as transformers does: indented, UTF-8, a newline at the end."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def carry_files(source: Path, target: Path) -> None:
    """Copy configuration, tokenizer and processor files from checkpoint to checkpoint."""
    for name in CARRIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _publish(folder: Path) -> None:
    """Undo the privacy that mkdtemp and safetensors insist on: the user's own umask decides."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
