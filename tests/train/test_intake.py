"""A run on a weighted mix with archives and broken samples: counted, named, licensed, resumed."""

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest

from neva.model import Checkpoint
from neva.model.provenance import read_provenance
from neva.train.feed import Feed
from neva.train.loop import run
from neva.train.recipe import Recipe

RECIPE = Recipe(
    batch_size=4, row_tokens=256, max_length=256, save_every=0, feature_cache=True, epochs=2,
    max_bad_share=0.2, workers=1,
)  # fmt: skip


@pytest.fixture
def mix(data: Path, pictures: Path, tmp_path: Path) -> Path:
    """24 records once in a zip, and 4 of another set at weight 0.5, one with a missing image."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in pictures.iterdir():
            archive.write(file, file.name)
    records = json.loads(data.read_text())[:4]
    records[0]["image"] = "gone.png"
    (tmp_path / "small.json").write_text(json.dumps(records))
    mix = tmp_path / "mix.toml"
    mix.write_text(
        f"""
        [[datasets]]
        path = "{data}"
        images = "all.zip"
        licence = "Apache-2.0"
        [[datasets]]
        path = "small.json"
        name = "small"
        version = "2"
        images = "{pictures}"
        weight = 0.5
        licence = "CC BY-NC 4.0"
        """.replace("\n        ", "\n")
    )
    return mix


@pytest.mark.parametrize("cached", [True, False])
def test_a_mix_is_counted_and_its_licence_kept(
    cached: bool, parent: Checkpoint, mix: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, feature_cache=cached)
    summary = run(recipe, parent.path, [mix], None, tmp_path / "run")
    assert summary.samples == 2 * (24 + 2) - 1 and summary.skipped == 1
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["datasets"]
    assert [(d["samples"], d["skipped"], d["seen"], d["weight"]) for d in told] == [
        (24, 0, 48, 1.0), (4, 1, 4, 0.5),
    ]  # fmt: skip
    made = read_provenance(tmp_path / "run" / "final" / "neva.json")
    assert [(d.name, d.version, d.skipped) for d in made.datasets] == [
        ("train.json", "", 0), ("small", "2", 1),
    ]  # fmt: skip
    assert all(len(d.sha256) == 64 for d in made.datasets)
    assert made.parents[0] == parent.sha256
    assert made.non_commercial == "Not for commercial use: it learned from small (CC BY-NC 4.0)."


def test_what_was_skipped_survives_a_resumption(parent: Checkpoint, mix: Path) -> None:
    live = dataclasses.replace(RECIPE, feature_cache=False)

    def opened() -> Feed:
        feed = Feed.open(live, parent, [mix], None)
        feed.attach(None, print)
        return feed

    with opened() as first, opened() as second:
        while 24 not in first.bad:
            assert first.next_step() is not None
        state = json.loads(json.dumps(first.state()))
        second.restore(state)
        assert second.datasets() == first.datasets()
        assert [used.skipped for used in second.datasets()] == [0, 1]
        while second.next_step() is not None:
            pass
        assert [used.seen for used in second.datasets()] == [48, 4]
