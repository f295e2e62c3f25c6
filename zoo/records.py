"""LLaVA's own JSON: records of turns, written beside their pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

Turn = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True)
class Example:
    """One record before it is written: a picture or none, and its turns."""

    kind: str
    turns: tuple[Turn, ...]
    picture: Image.Image | None = None


def record(number: int, image: str | None, turns: Sequence[Turn]) -> dict[str, Any]:
    """One LLaVA record; the first human turn of a record with an image starts with its tag."""
    conversations = []
    for place, (question, answer) in enumerate(turns):
        tag = "<image>\n" if image is not None and place == 0 else ""
        conversations.append({"from": "human", "value": tag + question})
        conversations.append({"from": "gpt", "value": answer})
    out: dict[str, Any] = {"id": f"{number:06d}"}
    if image is not None:
        out["image"] = image
    return out | {"conversations": conversations}


def save_picture(picture: Image.Image, folder: Path, number: int) -> str:
    """PNG for small pictures, JPEG for one of three of the others; returns the file's name."""
    jpeg = picture.width > 100 and number % 3 == 0
    name = f"{number:06d}.{'jpg' if jpeg else 'png'}"
    if jpeg:
        picture.save(folder / name, quality=88)
    else:
        picture.save(folder / name)
    return name


def write(examples: Sequence[Example], folder: Path) -> int:
    """Write ``images/`` and ``chat.json``, the JSON last and atomically."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, example in enumerate(examples):
        name = None
        if example.picture is not None:
            name = save_picture(example.picture, images, number)
        rows.append(record(number, name, example.turns))
    part = folder / "chat.json.part"
    part.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    part.rename(folder / "chat.json")
    return len(rows)
