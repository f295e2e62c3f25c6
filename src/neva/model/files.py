"""Writing a directory all or nothing, and the JSON and text files of a checkpoint.

A checkpoint is written aside and renamed when it is whole, so that a failure leaves nothing behind.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out` that becomes `out` when the block ends without an error.

    CheckpointError if `out` exists already and is not an empty directory.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield aside
        _publish(aside)
        check_free(out)
        aside.replace(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def check_free(out: Path) -> None:
    """CheckpointError if something is at `out` that writing there would destroy."""
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
