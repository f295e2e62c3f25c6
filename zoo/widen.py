"""Add new sources' drawings to a gallery that a CLIP was trained on, which then goes on with them.

    python -m zoo.widen openclipart-png coins typefaces

A fresh gallery (`zoo.artists`) orders its rows otherwise, and a fresh teacher (`zoo.teacher`) has
other axes: aims of a trained CLIP would turn. So rows are appended, and the teacher's vectors of
the new ones are taken along the old axes. `zoo.clip_train` keeps the names' vectors by name.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from zoo.artists import train_jobs
from zoo.drawings import Drawing, Gallery, Pixels, render
from zoo.names import EmojiNames
from zoo.sources import fetch, source
from zoo.teacher import EfficientNetLite0, Floats, Whitening, feature_maps, flatten

ENOUGH = 6000
"""Old drawings of which the teacher's axes are found again."""


def rendered(work: Path, sets: tuple[str, ...]) -> tuple[list[Drawing], Pixels]:
    """The drawings of ``sets`` and their pixels; ValueError if there is none of one."""
    names = EmojiNames.read(fetch(source("emojibase-data"), work / "packages"))
    jobs = [job for job in train_jobs(work / "packages", names) if job[0].set_name in sets]
    if missing := set(sets) - {drawing.set_name for drawing, _ in jobs}:
        raise ValueError(f"no drawing is of the set {', '.join(sorted(missing))}")
    with ProcessPoolExecutor(2) as pool:
        arts = list(pool.map(render, [art for _, art in jobs], chunksize=64))
    kept = [(job[0], art) for job, art in zip(jobs, arts, strict=True) if art is not None]
    return [drawing for drawing, _ in kept], np.stack([art for _, art in kept])


def axes_of(whitened: Floats, vectors: Floats) -> Floats:
    """The affine map ``(4865, 256)`` from whitened features to the teacher's vectors."""
    ones = np.ones((len(whitened), 1), np.float32)
    found: Floats = np.linalg.lstsq(np.concatenate([whitened, ones], 1), vectors, rcond=1e-5)[0]
    return found


def widen(work: Path, sets: tuple[str, ...]) -> int:
    """Append the drawings of ``sets`` to WORK/drawings and WORK/teacher; returns how many."""
    gallery = Gallery.open(work / "drawings")
    known = {drawing.set_name for drawing in gallery.drawings}
    if here := known & set(sets):
        raise ValueError(f"{work / 'drawings'} has {', '.join(sorted(here))} already")
    drawings, pixels = rendered(work, sets)
    teacher = work / "teacher"
    model = EfficientNetLite0.pretrained(work / "packages")
    maps = feature_maps(Gallery(tuple(drawings), pixels), model)
    old = {name: np.load(teacher / f"{name}.npy", mmap_mode="r") for name in ("middle", "late")}
    vectors, saved = np.load(teacher / "vectors.npy"), np.load(teacher / "whitening.npz")
    whiten = Whitening(saved["centre"], saved["matrix"])
    some = np.sort(np.random.default_rng(0).permutation(len(vectors))[:ENOUGH])
    axes = axes_of(whiten(flatten(old["middle"][some], old["late"][some])), vectors[some])
    new = whiten(flatten(*maps)) @ axes[:-1] + axes[-1]
    together = {
        teacher / "middle.npy": (old["middle"], maps[0]),
        teacher / "late.npy": (old["late"], maps[1]),
        teacher / "vectors.npy": (vectors, new.astype(np.float32)),
        work / "drawings" / "pixels.npy": (gallery.pixels, pixels),
    }
    for path, parts in together.items():
        with path.with_suffix(".part").open("wb") as out:
            np.save(out, np.concatenate(parts))
    table = work / "drawings" / "table.jsonl"
    lines = "".join(json.dumps(asdict(d)) + "\n" for d in drawings)
    table.with_suffix(".part").write_text(table.read_text() + lines)
    for path in (*together, table):
        path.with_suffix(".part").replace(path)
    return len(drawings)


def main(argv: list[str] | None = None) -> int:
    """Append the drawings of new sources."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", help="short names of sources, as in the table")
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    o = parser.parse_args(argv)
    try:
        print(f"{widen(o.work, tuple(o.sets))} drawings added")
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
