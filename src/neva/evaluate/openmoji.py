"""Naming OpenMoji's drawings: does the model know things when an unseen artist draws them?

`data` is the npm package openmoji 17, unpacked: data/openmoji.json and color/svg/, or pictures
already drawn in color/png/ (HEXCODE.png). SVGs are drawn 256 pixels wide into the user's cache
once, cropped to the drawing and centred on a white square with a margin of 3%: the canvas of an
OpenMoji is half empty, which is not what is judged here. OpenMoji is CC-BY-SA-4.0 and a judge: no
model here trains on it. Skin tones and OpenMoji's own extras are left out, which leaves 1,923
drawings.

An answer counts when it equals the annotation or one of its CLDR keywords after normalisation. A
flag's keyword "flag" and its country code name no country, so they do not count. Half of the
drawings ("dev") may be used to choose recipes; the other ("report") is for reported figures.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from neva.cachedir import cache_dir
from neva.evaluate.files import field, folder, read_json
from neva.evaluate.normalise import bare
from neva.evaluate.svg import cut_out, write_once
from neva.evaluate.task import Item, Judged, accuracy, percent

TABLE = Path("data") / "openmoji.json"
SVGS = Path("color") / "svg"
PNGS = Path("color") / "png"
WIDTH = 256
MARGIN = 1.06  # side of the square, as a multiple of the drawing's longer side
NATION = "flag: "


@dataclass(frozen=True)
class OpenMoji:
    """Names of emoji; kinds are "emoji" and "flag" (the flags of nations and regions)."""

    name: str = "openmoji"
    summary: str = "Naming OpenMoji 17's drawings; the annotation or a CLDR keyword counts."
    headline: str = "accuracy"
    suffix: str = ""
    max_tokens: int = 24
    question: str = "What is this?"

    def load(self, data: Path | None) -> list[Item]:
        """1,923 drawings, drawn if need be."""
        root, rows = read_table(self.name, data)
        drawn = root / PNGS if (root / PNGS).is_dir() else draw(root, rows)
        return [self.item(row, drawn) for row in rows]

    def item(self, row: dict[str, Any], drawn: Path) -> Item:
        """One drawing with the names that count."""
        annotation = str(row["annotation"])
        nation = annotation.startswith(NATION)
        return Item(
            id=str(row["hexcode"]),
            question=self.question,
            image=drawn / f"{row['hexcode']}.png",
            golds=nation_names(annotation) if nation else names(annotation, str(row["tags"])),
            kind="flag" if nation else "emoji",
            facts={"half": half(str(row["hexcode"])), "group": row["group"]},
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Right when the answer, without "it is", is one of the names."""
        read = bare(answer)
        return read, float(bool(read) and read in {bare(name) for name in item.golds})

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy by kind, by half, by group, and of the annotation alone ("exact")."""
        figures = accuracy(judged)
        figures["exact"] = percent([float(one.read == bare(one.item.golds[0])) for one in judged])
        for key in ("half", "group"):
            for value in sorted({str(one.item.facts[key]) for one in judged}):
                members = [one.credit for one in judged if one.item.facts[key] == value]
                figures[f"{key}.{value}"] = percent(members)
                figures[f"n.{value}"] = float(len(members))
        return figures

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """The best single answer to all of them, chosen by looking at the answers."""
        counts = Counter(name for item in items for name in {bare(gold) for gold in item.golds})
        best = min(counts, key=lambda name: (-counts[name], name))
        return self.metrics([Judged(item, best, *self.judge(item, best)) for item in items])


def read_table(task: str, data: Path | None) -> tuple[Path, list[dict[str, Any]]]:
    """The package's folder and the rows of its table that are asked about."""
    root = folder(task, data, f"{TABLE} and {SVGS}/ (npm package openmoji, unpacked)")
    path = root / TABLE
    return root, [row for row in read_json(path) if wanted(row, str(path))]


def wanted(row: Any, where: str) -> bool:
    """Neither a skin tone's variant nor one of OpenMoji's own extras."""
    shown = not field(row, "skintone", where)
    for name in ("hexcode", "annotation", "tags", "group"):
        field(row, name, where)
    return shown and not str(row["group"]).startswith("extras")


def names(annotation: str, tags: str) -> tuple[str, ...]:
    """The annotation, then the keywords."""
    keywords = [tag.strip() for tag in tags.split(",") if tag.strip()]
    return (annotation, *(tag for tag in keywords if tag != annotation))


def nation_names(annotation: str) -> tuple[str, ...]:
    """Ways to name a nation's flag, all of which name the nation."""
    nation = annotation.removeprefix(NATION)
    return (annotation, nation, f"flag of {nation}", f"flag {nation}", f"{nation} flag")


def half(hexcode: str) -> str:
    """ "report" or "dev", by a hash of the code point without variation selectors."""
    parts = (part.lstrip("0") for part in hexcode.lower().split("-"))
    bare_code = "-".join(part for part in parts if part not in ("fe0e", "fe0f"))
    return "report" if hashlib.sha256(bare_code.encode()).digest()[0] % 2 else "dev"


def draw(root: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Draw what the cache lacks; the folder of the PNG files."""
    place = cache_dir() / f"openmoji-{digest(root)}-{WIDTH}-cropped"
    place.mkdir(parents=True, exist_ok=True)
    for row in rows:
        target = place / f"{row['hexcode']}.png"
        if not target.is_file():
            write_once(target, centred(cut_out(root / SVGS / f"{row['hexcode']}.svg", WIDTH)))
    return place


def centred(drawing: Image.Image) -> bytes:
    """An RGBA drawing in the middle of a white square, as PNG."""
    side = max(2, round(max(drawing.size) * MARGIN))
    square = Image.new("RGB", (side, side), "white")
    place = ((side - drawing.width) // 2, (side - drawing.height) // 2)
    square.paste(drawing, place, drawing)
    out = io.BytesIO()
    square.save(out, "PNG")
    return out.getvalue()


def digest(root: Path) -> str:
    """The table's identity, so that two versions never share drawings."""
    return hashlib.sha256((root / TABLE).read_bytes()).hexdigest()[:12]
