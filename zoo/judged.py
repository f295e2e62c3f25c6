"""What `neva eval --json` wrote, put together again with the questions it was asked.

A result holds answers by id; groups, keywords and forms of questions are in the benchmark's own
files, read as the judge reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import DataError
from neva.evaluate import TASKS, Item, Judged, read
from neva.evaluate.files import read_json

STAMPS = "tuxpaint-stamps-default"
FILES: Mapping[str, str] = {
    "easy-vqa": "",
    "openmoji": "openmoji-17.0.0/package",
    "scenes": "openmoji-17.0.0/package",
    "sizes": "openmoji-17.0.0/package",
    "stamps": f"{STAMPS}/usr/share/tuxpaint/stamps",
}
"""Task -> its files below the folder of unpacked packages; easy-vqa's are those installed."""


@dataclass(frozen=True)
class Result:
    """A result: its JSON, the whole set's items, and the answers judged as they were."""

    record: Mapping[str, Any]
    items: tuple[Item, ...]
    judged: tuple[Judged, ...]

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.record["task"])

    @property
    def baseline(self) -> str:
        """ "none", "text" or "shuffled"."""
        return str(self.record["asked"].get("baseline", "none"))


def data_of(task: str, packages: Path) -> Path | None:
    """The folder to give as --data; None for a task that needs none."""
    return packages / FILES[task] if FILES[task] else None


def check_there(tasks: Iterable[str], packages: Path) -> None:
    """DataError, before hours of work, for a judge whose files are not there, and how to get them.

    The stamps are GPL artwork that nothing here is made of: `zoo.sources` does not fetch them.
    """
    place = packages / STAMPS
    apt = f"apt-get download {STAMPS} && dpkg-deb --extract {STAMPS}_*.deb {place}"
    for task in tasks:
        data = data_of(task, packages) if task in FILES else None
        if data is not None and not data.is_dir():
            remedy = apt if task == "stamps" else "python -m zoo.sources"
            raise DataError(f"{data} is not there, and {task} needs it; run: {remedy}")


def read_result(path: Path, packages: Path) -> Result:
    """A result with its questions. DataError if they are not those it was asked."""
    record = read_json(path)
    items = read(TASKS[record["task"]], data_of(record["task"], packages))
    return join(record, items, path)


def join(record: Mapping[str, Any], items: list[Item], path: Path) -> Result:
    """The answers beside their items. DataError names the first answer without one."""
    by_id = {item.id: item for item in items}
    judged = []
    for one in record["answers"]:
        item = by_id.get(one["id"])
        if item is None or item.golds[0] != one["gold"]:
            raise DataError(
                f"{path}: question {one['id']!r} is not in these files of {record['task']}; "
                "give --packages the folder that it ran on."
            )
        judged.append(Judged(item, one["answer"], one["read"], one["credit"], one.get("error")))
    return Result(record, tuple(items), tuple(judged))
