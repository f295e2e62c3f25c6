"""Who drew what: of each package its drawings, with names, words and licence, and what to render.

    python -m zoo.artists           # every drawing, rendered once into WORK/drawings, WORK/openmoji

A job is a row of the gallery's table and its art, for `zoo.drawings.write`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.clipart import chosen
from zoo.coins import COINS, coins
from zoo.drawings import GLYPH, Art, Drawing, Gallery, write
from zoo.glyphs import ALSO_CALLED, Typefaces
from zoo.lines import COLOURED, glyphs
from zoo.names import EmojiNames, bare_codepoint, is_skin_tone, words_of
from zoo.sources import Source, fetch_all, source, training_sets

FONTS = ("noto-emoji",)
GLYPH_TIMES = 40
"""How often each name of `zoo.glyphs` is drawn."""
STRUCK = 160
OLDER_NAMES = (*COLOURED, "streamline-emojis")
"""Sets that bear emoji's names of some years ago (`zoo.names.EmojiNames.find_older`)."""


def _icon_svg(icons: dict[str, object], name: str) -> str:
    body = icons["icons"][name]  # type: ignore[index]
    width = body.get("width", icons.get("width", 16))
    height = body.get("height", icons.get("height", 16))
    left, top = body.get("left", 0), body.get("top", 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{body["body"]}</svg>'
    )


def _keep(item: Source, name: str, known: set[str]) -> bool:
    if item.kind == "emoji":
        return not is_skin_tone(name, known)
    if item.set_name == "ph":
        return not name.endswith(("-bold", "-thin", "-light"))
    if item.set_name == "healthicons":
        return not name.endswith(("24px", "-negative"))
    if item.set_name == "fluent-color":
        family = name.rsplit("-", 1)[0]
        return not any(f"{family}-{s}" in known for s in (48, 32, 28, 24) if name < f"{family}-{s}")
    return True


def iconify_jobs(item: Source, package: Path, names: EmojiNames) -> Iterator[tuple[Drawing, str]]:
    """The drawings of one icon set with their SVG texts."""
    icons = json.loads((package / "icons.json").read_text())
    metadata = json.loads((package / "metadata.json").read_text())
    codes = {v: k for k, v in json.loads((package / "chars.json").read_text()).items()}
    groups: dict[str, str] = {}
    for group, members in metadata.get("categories", {}).items():
        groups.update({member: group.lower() for member in members})
    known = set(icons["icons"])
    for name in sorted(known):
        if not _keep(item, name, known):
            continue
        emoji = names.find(name, codes.get(name, "") if item.kind in ("emoji", "line") else "")
        words = words_of(name)
        if emoji is None and item.kind != "emoji":
            emoji = names.find(words)
        if emoji is None and item.set_name in OLDER_NAMES:
            emoji = names.find_older(words)
        if not words and emoji is None:
            continue
        yield (
            Drawing(
                identifier=name,
                concept=emoji.label if emoji else words,
                keywords=emoji.keywords if emoji else (),
                group=emoji.group if emoji else groups.get(name, ""),
                subgroup=emoji.subgroup if emoji else "",
                set_name=item.set_name,
                kind=item.kind,
                licence=item.licence,
                codepoint=emoji.codepoint if emoji else "",
            ),
            _icon_svg(icons, name),
        )


def line_jobs(
    item: Source, package: Path, names: EmojiNames, colours: dict[str, str]
) -> Iterator[tuple[Drawing, Art]]:
    """Emoji in black lines: as they are, and coloured in with ``colours``, by codepoint."""
    if item.set_name in FONTS:
        jobs = glyph_jobs(item, package, names)
    else:
        jobs = iconify_jobs(item, package, names)
    for drawing, svg in jobs:
        if not drawing.codepoint or drawing.group in ("flags", "component"):
            continue
        yield replace(drawing, kind="mono"), svg
        if drawing.codepoint in colours:
            yield replace(drawing, kind="emoji"), (svg, colours[drawing.codepoint])


def glyph_jobs(item: Source, package: Path, names: EmojiNames) -> Iterator[tuple[Drawing, str]]:
    """The emoji of a font whose characters are emoji."""
    for code, svg in glyphs(package):
        if (emoji := names.by_code.get(bare_codepoint(code))) is None:
            continue
        what = (emoji.label, emoji.keywords, emoji.group, emoji.subgroup)
        yield Drawing(code, *what, item.set_name, item.kind, item.licence, emoji.codepoint), svg


def shaded_jobs(item: Source, package: Path, names: EmojiNames) -> Iterator[tuple[Drawing, Path]]:
    """Emoji as pictures that are named by their codepoints; without skin tones."""
    for path in sorted((package / "assets").glob("*.webp")):
        emoji = names.by_code.get(bare_codepoint(path.stem))
        if emoji is None or emoji.group == "component":
            continue
        what = (emoji.label, emoji.keywords, emoji.group, emoji.subgroup)
        yield (
            Drawing(path.stem, *what, item.set_name, "emoji", item.licence, emoji.codepoint),
            path,
        )


def clipart_jobs(item: Source, package: Path, names: EmojiNames) -> Iterator[tuple[Drawing, Path]]:
    """Pictures of things by many hands (`zoo.clipart`)."""
    for identifier, name, path in chosen(package):
        if (emoji := names.find(name)) is None:
            raise KeyError(f"zoo/clipart.tsv: CLDR has no emoji {name!r}")
        what = (emoji.label, emoji.keywords, emoji.group, emoji.subgroup)
        yield (
            Drawing(identifier, *what, item.set_name, "emoji", item.licence, emoji.codepoint),
            path,
        )


def glyph_art(packages: Path) -> Iterator[tuple[Drawing, Image.Image]]:
    """Letters, digits, signs, music's and chess's, by the names that CLIP's drawings have."""
    typefaces, often = Typefaces.fetched(packages), Counter[str]()
    for glyph in typefaces.each(GLYPH_TIMES, np.random.default_rng(31)):
        often[glyph.name] += 1
        identifier = f"{glyph.name} {often[glyph.name]}"
        concept = ALSO_CALLED.get(glyph.name, glyph.name)
        yield (
            Drawing(identifier, concept, (), "symbols", "", "typefaces", GLYPH, "OFL-1.1", ""),
            (glyph.image),
        )


def coin_art(packages: Path, names: EmojiNames) -> Iterator[tuple[Drawing, Image.Image]]:
    """Struck coins (`zoo.coins`)."""
    coin = names.by_name["coin"]
    what = (coin.label, coin.keywords, coin.group, coin.subgroup)
    typefaces = Typefaces.fetched(packages)
    for number, image in enumerate(coins(typefaces, STRUCK, np.random.default_rng(32))):
        yield Drawing(f"coin {number}", *what, COINS, "emoji", "OFL-1.1", coin.codepoint), image


def flag_jobs(package: Path, names: EmojiNames) -> Iterator[tuple[Drawing, str]]:
    """The flags of ``flag-icons`` with country, capital and continent."""
    item = source("flag-icons")
    for row in json.loads((package / "country.json").read_text()):
        code = row["code"]
        letters = "-".join(f"{0x1F1E6 + ord(c) - 97:x}" for c in code if c.isalpha())
        emoji = names.by_code.get(letters) if len(code) == 2 else None
        concept = emoji.label if emoji else f"flag: {row['name']}"
        details = (row["name"], row.get("capital", ""), row.get("continent", ""))
        svg = (package / row["flag_4x3"]).read_text()
        yield (
            Drawing(
                code,
                concept,
                emoji.keywords if emoji else (),
                "flags",
                "country-flag",
                item.set_name,
                item.kind,
                item.licence,
                letters if emoji else "",
                details,
            ),
            svg,
        )


def openmoji_jobs(package: Path) -> Iterator[tuple[Drawing, str]]:
    """OpenMoji without skin tones and extras: 1,923 drawings, evaluation only."""
    item = source("openmoji")
    for row in json.loads((package / "data" / "openmoji.json").read_text()):
        if row["skintone"] or row["group"].startswith("extras"):
            continue
        tags = tuple(t.strip() for t in row["tags"].split(",") if t.strip())
        yield (
            Drawing(
                row["hexcode"],
                row["annotation"],
                tags,
                row["group"],
                row["subgroups"],
                item.set_name,
                item.kind,
                item.licence,
                bare_codepoint(row["hexcode"]),
            ),
            (package / "color" / "svg" / f"{row['hexcode']}.svg").read_text(),
        )


def train_jobs(folder: Path, names: EmojiNames) -> Iterator[tuple[Drawing, Art]]:
    """All drawings that are trained on, of the packages in ``folder``."""
    packages = fetch_all(folder)
    coloured: dict[str, dict[str, str]] = {}
    for item in training_sets():
        package = packages[item.set_name]
        if item.kind == "shaded":
            yield from shaded_jobs(item, package, names)
            continue
        if item.kind == "clipart":
            yield from clipart_jobs(item, package, names)
            continue
        if item.kind == "line":
            yield from line_jobs(item, package, names, coloured[COLOURED[item.set_name]])
            continue
        jobs = list(iconify_jobs(item, package, names))
        coloured[item.set_name] = {d.codepoint: svg for d, svg in jobs if d.codepoint}
        yield from jobs
    yield from flag_jobs(packages["flag-icons"], names)
    yield from glyph_art(folder)
    yield from coin_art(folder, names)


def build(work: Path) -> dict[str, int]:
    """Render the training gallery and the OpenMoji gallery unless they exist."""
    packages = fetch_all(work / "packages")
    names = EmojiNames.read(packages["emojibase-data"])
    if not (work / "drawings" / "table.jsonl").is_file():
        write(train_jobs(work / "packages", names), work / "drawings")
    if not (work / "openmoji" / "table.jsonl").is_file():
        write(openmoji_jobs(packages["openmoji"]), work / "openmoji")
    return Gallery.open(work / "drawings").counts() | Gallery.open(work / "openmoji").counts()


def main(argv: list[str] | None = None) -> int:
    """Render all drawings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    print(build(parser.parse_args(argv).work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
