"""The parts that wait in zoo/next fit those of the package: one command ships them."""

import shutil
from pathlib import Path

from neva.nano.manifest import WEIGHTS, check_parts, read_manifest

NEXT = Path(__file__).parents[2] / "zoo" / "next"


def test_the_next_versions_parts_are_whole(tmp_path: Path) -> None:
    parts = shutil.copytree(WEIGHTS, tmp_path / "weights")
    shutil.copytree(NEXT, parts, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
    manifest = read_manifest(parts)
    assert manifest.assembled != read_manifest(WEIGHTS).assembled
    check_parts(parts, manifest)
