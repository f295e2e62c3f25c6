"""Benchmark files from disk: JSON and JSON lines, with errors that name file, line and remedy."""

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from neva.errors import DataError


def folder(task: str, data: Path | None, expects: str) -> Path:
    """The benchmark's folder, or a sentence that says what must be in it."""
    if data is None:
        raise DataError(f"{task} needs its files: give --data DIR, a folder with {expects}.")
    if not data.is_dir():
        raise DataError(f"{data} is not a folder; give --data DIR, a folder with {expects}.")
    return data


def read_text(path: Path) -> str:
    """The file's text (UTF-8, a byte order mark left out)."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; download it there or correct --data.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; download it again.") from None


def read_json(path: Path) -> Any:
    """The file's JSON value."""
    return parse(read_text(path), f"{path}")


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, JSON value) of every line that is not empty."""
    # not splitlines(), which also splits at U+2028, a letter inside of JSON's strings
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, parse(line, f"{path}, line {number}")


def parse(text: str, where: str) -> Any:
    """JSON, or a sentence that names the place."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: broken JSON at line {error.lineno}, column {error.colno}; "
            "download the file again."
        ) from None


def rows(record: Any, name: str, where: str) -> list[Any]:
    """A field that must be there and be a list."""
    found = field(record, name, where)
    if not isinstance(found, list):
        raise DataError(f"{where}: {name!r} is no list; this is not the benchmark's file.")
    return found


def text(record: Any, name: str, where: str) -> str:
    """A field that must be there and be text, or a number, as some files write it."""
    return as_text(field(record, name, where), name, where)


def texts(record: Any, name: str, where: str) -> list[str]:
    """A field that must be a list of such texts."""
    return [as_text(one, name, where) for one in rows(record, name, where)]


def as_text(found: Any, name: str, where: str) -> str:
    """A null would become the word None, which the VQA metric reads as 0 and might call right."""
    if isinstance(found, str | int) or (isinstance(found, float) and isfinite(found)):
        return str(found)
    told = "null" if found is None else "NaN" if isinstance(found, float) else type(found).__name__
    raise DataError(f"{where}: {name!r} holds {told} instead of text; download the file again.")


def number(record: Any, name: str, where: str) -> int:
    """A field that must be there and be a whole number."""
    found = field(record, name, where)
    try:
        return int(found)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {name!r} is {found!r}, which is no number.") from None


def yes_or_no(label: Any, path: Path, line: int) -> str:
    """A true answer, in lower case: any other word could never be met, and nobody would notice."""
    said = str(label).strip().lower()
    if said not in ("yes", "no"):
        raise DataError(
            f"{path}, line {line}: the answer is {label!r}, neither yes nor no; "
            "download the file again."
        )
    return said


def field(record: Any, name: str, where: str) -> Any:
    """A field that must be there."""
    if not isinstance(record, dict) or name not in record:
        raise DataError(f"{where}: no field {name!r}; this is not the benchmark's file.")
    return record[name]
