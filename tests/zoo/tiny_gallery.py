"""A gallery of a dozen made-up drawings, as `zoo.drawings` would write it."""

from collections.abc import Iterator
from pathlib import Path

from zoo.drawings import Drawing, write

COLOURS = ("crimson", "navy", "olive", "indigo", "maroon", "coral")
NAMES = ("cat", "dog", "apple", "clock", "boat", "drum")
GROUPS = ("animals-nature", "animals-nature", "food-drink", "objects", "travel-places", "objects")


def _svg(colour: str, wide: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect x="4" y="8" width="{wide}" height="12" fill="{colour}"/></svg>'
    )


def jobs() -> Iterator[tuple[Drawing, str]]:
    """Six emoji by two artists, two icons, two mono icons, one flag."""
    for artist, wide in (("noto", 20), ("twemoji", 12)):
        for i, name in enumerate(NAMES):
            yield (
                Drawing(
                    name,
                    name,
                    ("thing", "small"),
                    GROUPS[i],
                    "animal-mammal" if i < 2 else "",
                    artist,
                    "emoji",
                    "MIT",
                    f"1f40{i}",
                ),
                _svg(COLOURS[i], wide),
            )
    for kind in ("icon", "mono"):
        for i in range(2):
            yield (
                Drawing(f"{kind}-{i}", f"thing {i}", (), "", "", "mdi", kind, "MIT", ""),
                _svg("black", 10 + i),
            )
    yield (
        Drawing(
            "fr",
            "flag: France",
            ("FR",),
            "flags",
            "country-flag",
            "flag-icons",
            "flag",
            "MIT",
            "1f1eb",
            ("France", "Paris", "Europe"),
        ),
        _svg("blue", 24),
    )


def build(work: Path) -> None:
    """Render the gallery into ``work/drawings``."""
    write(jobs(), work / "drawings", processes=1)
