"""Time to quality: rows are read, added and drawn; the committed ones are those of the results."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from zoo import progress

ROOT = Path(__file__).parents[2]


def test_the_last_row_is_the_committed_results_own() -> None:
    rows = progress.read(ROOT / progress.ROWS)
    last = rows[-1]
    found = progress.measured(last["version"], last["hours"], last["what was new"],
                              ROOT / progress.PLOT.parent)  # fmt: skip
    assert found == last
    hours = [float(row["hours"]) for row in rows]
    assert hours == sorted(hours)


def test_a_version_is_added_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    shutil.copy(ROOT / progress.ROWS, path)
    before = progress.read(path)
    progress.add({**before[-1], "version": "99", "hours": "30.5"}, path)
    rows = progress.read(path)
    assert len(rows) == len(before) + 1
    assert progress.as_table(rows).splitlines()[-1].startswith("| 99 | 30.5 | ")
    progress.draw(rows, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size == (800, 450) and len(plot.convert("RGB").getcolors(1 << 20) or ()) > 10
