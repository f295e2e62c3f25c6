"""The repository as a reader sees it: tracked files, and what README and docs tell him to do."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "neva"
MODULES = sorted(SRC.rglob("*.py"))
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "zoo").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ASSIGNMENT = re.compile(r"\w+=.*")


@dataclass(frozen=True)
class Command:
    """A line that a document tells its reader to type; `place` names the document."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)}"


@cache
def tracked() -> tuple[str, ...]:
    """Files that git knows, or would if they were added: paths from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    names = listed.stdout.decode().split("\0")
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(path.read_text(encoding="utf-8"))


def fences(path: Path, *kinds: str) -> list[str]:
    """The code blocks of these languages."""
    return [code for kind, code in FENCE.findall(path.read_text()) if kind in kinds]


def spans(path: Path) -> list[str]:
    """Inline code, outside of code blocks."""
    return SPAN.findall(FENCE.sub("", path.read_text()).replace("\n", " "))


def commands(path: Path) -> Iterator[Command]:
    """The lines of a document's shell blocks, continued lines joined, without comments."""
    for code in fences(path, "bash", "sh", ""):
        for line in code.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a block of output, or one command over several lines
                continue
            while words and ASSIGNMENT.fullmatch(words[0]):
                words = words[1:]
            if words[:1] == ["torchrun"] and "neva" in words:
                words = words[words.index("neva") :]
            if words:
                yield Command(str(path.relative_to(ROOT)), tuple(words))


def is_neva(words: tuple[str, ...]) -> bool:
    """Whether a command is one of ours."""
    return words[0] in ("neva", ".venv/bin/neva")


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    kept = (re.sub(r"[^\w\- ]", "", text.lower()) for text in HEADING.findall(path.read_text()))
    return {text.strip().replace(" ", "-") for text in kept}


def table(path: Path, heading: str) -> list[list[str]]:
    """Cells of the lines of the first table below a heading, without its two head lines."""
    _, found, rest = path.read_text().partition(f"\n{heading}\n")
    assert found, f"{path.name} has no heading {heading!r}"
    found_table = re.search(r"(?:^\|.*\n)+", re.split(r"\n#", rest)[0], re.MULTILINE)
    assert found_table, f"{path.name}, {heading}: no table"
    lines = found_table[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
