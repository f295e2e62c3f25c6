"""A run on a weighted mix with archives and broken samples: counted, named, licensed, resumed."""

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from neva.data.mix import one_by_one
from neva.errors import DataError
from neva.model import Checkpoint
from neva.model.provenance import read_provenance
from neva.train.feed import Feed
from neva.train.intake import Intake
from neva.train.loop import run
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe
from neva.train.story import read_story

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


LIVE = dataclasses.replace(RECIPE, feature_cache=False, max_bad_share=0.05, epochs=9)


class Halves(Ranks):
    """One of two readers, whose other half skips as many samples as `others` says."""

    others = 0

    @property
    def reader(self) -> int:
        return 1

    @property
    def readers(self) -> int:
        return 2

    def total(self, numbers: Sequence[float]) -> list[float]:
        return [number + self.others for number in numbers]


def broken_at(places: Sequence[int], data: Path, out: Path) -> Path:
    """40 records, of which those at `places` of the first pass have no image."""
    (first, *_) = json.loads(data.read_text())
    records = [{**first, "id": f"r{n}"} for n in range(40)]
    order = one_by_one([40]).order(0, 0)
    for place in places:
        records[int(order[place])]["image"] = "gone.png"
    out.write_text(json.dumps(records))
    return out


def test_broken_samples_are_judged_over_all_processes_and_resumptions(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """One of 40 is allowed, whatever a process has seen by itself since it started."""
    file = broken_at([21], data, tmp_path / "one.json")

    def opened(ranks: Ranks) -> Feed:
        feed = Feed.open(LIVE, parent, [file], pictures)
        feed.attach(None, print, ranks)
        return feed

    with opened(Ranks()) as first, opened(Halves()) as second, opened(Halves()) as third:
        for _ in range(5):
            assert first.next_step() is not None
        state = json.loads(json.dumps(first.state()))
        second.restore(state)
        assert second.next_step() is not None and (second.skipped, second.seen) == (1, 24)
        third.restore(state)
        third._ranks.__class__.others = 2  # what the other process skips counts too
        try:
            with pytest.raises(DataError, match=r"3 of the first 24 samples are broken"):
                third.next_step()
        finally:
            third._ranks.__class__.others = 0


@pytest.mark.parametrize(("bad", "seen"), [(3, 40), (2, 360)])
def test_too_many_stop_a_run_once_that_is_sure(
    bad: int, seen: int, parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """3 of 40 in the first pass; 2 of 40, which are just allowed, never."""
    file = broken_at(range(40 - bad, 40), data, tmp_path / "some.json")
    with Feed.open(LIVE, parent, [file], pictures) as feed:
        feed.attach(None, print)
        try:
            while feed.next_step() is not None:
                pass
        except DataError as error:
            assert "3 of the first 40 samples" in str(error) and "gone.png" in str(error)
        assert feed.seen == seen


def test_every_skipped_record_is_named_once(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """Those that cannot be read, and those that share an id; none again after a resumption."""
    records = json.loads(data.read_text())
    records[2]["conversations"] = [{"from": "human", "value": "Hello?"}]
    records[3] |= {"id": "same", "image": "one.png"}
    records[4] |= {"id": "same", "image": "two.png"}
    file = tmp_path / "some.json"
    file.write_text(json.dumps(records))
    out = tmp_path / "run"
    recipe = dataclasses.replace(RECIPE, feature_cache=False, save_every=7)
    summary = run(recipe, parent.path, [file], pictures, out)
    events = read_story(out).events("skipped")
    assert summary.skipped == 5  # the two in both passes
    assert sorted(x for e in events for x in e["samples"]) == ["same", "same", "sample-2"]
    assert events[0]["step"] == 0 and f"{file} (number 3): " in events[0]["why"]
    assert {e["why"].split(" does")[0] for e in events[1:]} == {
        f"{pictures}/one.png", f"{pictures}/two.png",
    }  # fmt: skip


def test_less_than_one_sample_is_refused(data: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match=r"0.01 passes over 24 samples are less than one sample"):
        Intake.open(dataclasses.replace(RECIPE, epochs=0.01), [data], pictures)
