"""A contact sheet of an evaluation: hits and misses as a person would look at them."""

import random
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from neva.errors import DataError
from neva.evaluate.task import Item
from neva.images import read_image

SIDE = 132  # of a tile, in pixels
LINE = 15
GAP = 12
EDGE = 18
HEAD = 34
TITLE = 44
COLUMNS = 6
WIDE = 8  # columns of a sheet with more than three rows of hits
HIT, MISS, INK, SOFT, PAPER = "#1c7a43", "#b3261e", "#202124", "#70757a", "#ffffff"
TEXT, LARGE = 12, 17
MOST_BYTES = 1_000_000
ASKED = 4
"""Most lines of a tile's question."""
Answer = Mapping[str, Any]


def contact_sheet(
    result: Mapping[str, Any], items: Sequence[Item], most: int = 18, seed: int = 0
) -> Image.Image:
    """Up to `most` hits above as many misses, drawn by `seed`, in the order of the set; RGB.

    Each shows its question (in the title if there is only one), the answer in green or red, and
    what was true. DataError when an answer's question is not among `items`, or when it was asked
    with a blinding baseline.
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
    questions = {one["question"] for one in shown}
    title = f"{result['task']}: {len(shown):,} questions of {result['of']:,}, greedy"
    if len(questions) == 1:
        title += f', asked "{questions.pop()}"'
        questions = set()
    halves = [(name, colour, [one for one in shown if (one["credit"] > 0) is hit])
              for name, colour, hit in (("Hits", HIT, True), ("Misses", MISS, False))]  # fmt: skip
    lines = max((len(wrapped(one, SIDE, ASKED)) for one in questions), default=0)
    sheet = Sheet.of(title, COLUMNS if most <= 3 * COLUMNS else WIDE, lines)
    for name, colour, found in halves:
        share = 100 * len(found) / max(1, len(shown))
        chosen = pick(found, by_id, most, seed)
        sheet.band(f"{name}: {len(found):,} ({share:.1f}%)", colour, chosen, by_id)
    return sheet.image


class Sheet:
    """A page that grows downwards; `asks`: lines of each tile's own question, 0 without."""

    def __init__(self, image: Image.Image, columns: int, asks: int) -> None:
        self.image, self.columns, self.asks = image, columns, asks

    @classmethod
    def of(cls, title: str, columns: int, asks: int) -> "Sheet":
        """An empty page with its title."""
        width = 2 * EDGE + columns * (SIDE + GAP) - GAP
        image = Image.new("RGB", (width, TITLE), PAPER)
        line = fitting(title, width - 2 * EDGE, LARGE)
        ImageDraw.Draw(image).text((EDGE, 15), line, INK, font(LARGE))
        return cls(image, columns, asks)

    def band(
        self, title: str, colour: str, chosen: Sequence[Answer], by_id: Mapping[str, Item]
    ) -> None:
        """A heading and rows of tiles below what is there."""
        step = SIDE + 8 + LINE * (self.asks + 2) + GAP
        rows = -(-len(chosen) // self.columns)
        top = self.image.height
        taller = Image.new("RGB", (self.image.width, top + HEAD + rows * step), PAPER)
        taller.paste(self.image, (0, 0))
        self.image = taller
        draw = ImageDraw.Draw(self.image)
        draw.text((EDGE, top + 8), title, colour, font(15))
        for number, one in enumerate(chosen):
            left = EDGE + number % self.columns * (SIDE + GAP)
            down = top + HEAD + number // self.columns * step
            self.tile(draw, (left, down), one, by_id[one["id"]])

    def tile(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], one: Answer, item: Item) -> None:
        """One picture in its frame, with question, answer and truth below."""
        assert item.image is not None
        left, top = at
        colour = HIT if one["credit"] > 0 else MISS
        picture = fitted(Image.fromarray(read_image(item.image).array), SIDE - 10)
        frame = (left, top, left + SIDE - 1, top + SIDE - 1)
        draw.rounded_rectangle(frame, 6, PAPER, colour, 2)
        place = (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2)
        self.image.paste(picture, place)
        asked = wrapped(one["question"], SIDE, self.asks) if self.asks else []
        lines = [(line, SOFT) for line in asked]
        said = one.get("error") or one["answer"].strip() or "(nothing)"
        lines.append((fitting(said, SIDE), colour))
        if one["credit"] == 0 or said.lower() != one["gold"].lower():
            lines.append((fitting(f"is: {one['gold']}", SIDE), INK))
        for number, (line, ink) in enumerate(lines):
            draw.text((left + 1, top + SIDE + 4 + number * LINE), line, ink, font(TEXT))


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture in its own proportions, its longer side `side` pixels."""
    ratio = side / max(picture.size)
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def pick(
    answers: Sequence[Answer], by_id: Mapping[str, Item], most: int, seed: int
) -> list[Answer]:
    """`most` answers by chance, each about another picture while there are enough, in order."""
    rng = random.Random(seed)
    shuffled = rng.sample(range(len(answers)), len(answers))
    first: dict[Path | None, int] = {}
    for place in shuffled:
        first.setdefault(by_id[answers[place]["id"]].image, place)
    apart = list(first.values())
    rest = [place for place in shuffled if first[by_id[answers[place]["id"]].image] != place]
    return [answers[place] for place in sorted([*apart, *rest][:most])]


def save_sheet(image: Image.Image, path: Path, most: int = MOST_BYTES) -> None:
    """Write a PNG of at most `most` bytes: in fewer colours, then smaller, where it must be."""
    for step in range(12):
        colours = 256 >> min(step, 3)
        size = [round(side * 0.9 ** max(0, step - 3)) for side in image.size]
        small = image if step < 4 else image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        small.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= most:
            break
    path.write_bytes(buffer.getvalue())


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the sheet looks the same on every machine."""
    return ImageFont.load_default(size)


def fitting(text: str, width: int, size: int = TEXT) -> str:
    """One line of the text, cut with dots where it is too wide."""
    line = " ".join(text.split())
    face = font(size)
    if face.getlength(line) <= width:
        return line
    while line and face.getlength(line + "...") > width:
        line = line[:-1]
    return line.rstrip() + "..."


def wrapped(text: str, width: int, most: int) -> list[str]:
    """The text on at most `most` lines, broken between words, the last cut with dots."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most - 1:
        count = 1
        while count < len(words) and font(TEXT).getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        lines.append(fitting(" ".join(words[:count]), width))
        words = words[count:]
    return [*lines, fitting(" ".join(words), width)] if words else lines
