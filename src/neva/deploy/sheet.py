"""A contact sheet of an evaluation: hits and misses as a person would look at them."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from neva.errors import DataError
from neva.evaluate.task import Item
from neva.images import read_image

SIDE = 132
TEXT = 58
GAP = 10
COLUMNS = 6
HEAD = 26
HIT, MISS, INK, SOFT = "#1c7a43", "#b3261e", "#202124", "#70757a"
Answer = Mapping[str, Any]


def contact_sheet(result: Mapping[str, Any], items: Sequence[Item], most: int = 18) -> Image.Image:
    """Up to `most` hits above as many misses, at even distances over the set; RGB.

    Each shows its question, the answer in green or red, and what was true. DataError when an
    answer's question is not among `items`, or when it was asked with a blinding baseline.
    """
    if result["asked"].get("baseline", "none") != "none":
        raise DataError(f"{result['task']}: asked without its pictures; nothing to show.")
    by_id = {item.id: item for item in items}
    lost = [one["id"] for one in result["answers"] if one["id"] not in by_id]
    if lost:
        raise DataError(
            f"{result['task']}: question {lost[0]!r} is not in these files; give those it ran on."
        )
    shown = [one for one in result["answers"] if by_id[one["id"]].image is not None]
    halves = [
        ("Hits", pick([one for one in shown if one["credit"] > 0], by_id, most)),
        ("Misses", pick([one for one in shown if one["credit"] == 0], by_id, most)),
    ]
    counts = {"Hits": sum(one["credit"] > 0 for one in shown)}
    counts["Misses"] = len(shown) - counts["Hits"]
    rows = sum(HEAD + -(-len(chosen) // COLUMNS) * (SIDE + TEXT + GAP) for _, chosen in halves)
    canvas = Image.new("RGB", (GAP + COLUMNS * (SIDE + GAP), HEAD + rows + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    title = f"{result['task']}: {len(shown)} questions of {result['of']}, greedy"
    draw.text((GAP, 7), title, INK, font(14))
    top = HEAD
    for name, chosen in halves:
        draw.text((GAP, top + 6), f"{name} ({counts[name]})", INK, font(14))
        top += HEAD
        for number, one in enumerate(chosen):
            left = GAP + number % COLUMNS * (SIDE + GAP)
            down = top + number // COLUMNS * (SIDE + TEXT + GAP)
            tile(canvas, draw, (left, down), one, by_id[one["id"]])
        top += -(-len(chosen) // COLUMNS) * (SIDE + TEXT + GAP)
    return canvas


def pick(answers: Sequence[Answer], by_id: Mapping[str, Item], most: int) -> list[Answer]:
    """`most` answers at even distances, each about another picture while there are enough."""
    first: dict[Any, Answer] = {}
    for turn, one in enumerate(answers):
        picture = by_id[one["id"]].image
        seen = first.get(picture)
        if seen is None or (turn * 7) % 3 == 0:  # not always a picture's first kind of question
            first[picture] = one
    pool = list(first.values()) if len(first) >= most else list(answers)
    count = min(most, len(pool))
    return [pool[number * len(pool) // count] for number in range(count)]


def tile(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], one: Answer, item: Item
) -> None:
    """One picture with its question, answer and truth below."""
    assert item.image is not None
    colour = HIT if one["credit"] > 0 else MISS
    picture = Image.fromarray(read_image(item.image).array)
    ratio = (SIDE - 6) / max(picture.size)
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = at
    draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=colour, width=2)
    canvas.paste(picture, (left + (SIDE - size[0]) // 2, top + (SIDE - size[1]) // 2))
    said = one.get("error") or one["answer"].strip() or "(nothing)"
    lines = [*wrapped(one["question"], SIDE, 2), fitting(said, SIDE)]
    truth = "" if one["credit"] > 0 and said.lower() == one["gold"].lower() else one["gold"]
    colours = [*([SOFT] * (len(lines) - 1)), colour]
    if truth:
        lines.append(fitting(f"true: {truth}", SIDE))
        colours.append(INK)
    for number, (line, ink) in enumerate(zip(lines, colours, strict=True)):
        draw.text((left, top + SIDE + 2 + number * 13), line, ink, font(11))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the sheet looks the same on every machine."""
    return ImageFont.load_default(size)


def fitting(text: str, width: int) -> str:
    """One line of the text, cut with dots where it is too wide."""
    line = " ".join(text.split())
    face = font(11)
    if face.getlength(line) <= width:
        return line
    while line and face.getlength(line + "...") > width:
        line = line[:-1]
    return line + "..."


def wrapped(text: str, width: int, most: int) -> list[str]:
    """The text on at most `most` lines, broken between words, the last cut with dots."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most - 1:
        count = 1
        while count < len(words) and font(11).getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        lines.append(fitting(" ".join(words[:count]), width))
        words = words[count:]
    return [*lines, fitting(" ".join(words), width)] if words else lines
