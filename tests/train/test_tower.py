"""CLIP is in memory while it has something to look at, and not a moment longer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neva.model import Checkpoint, read_tensors
from neva.model.load import load_model
from neva.train import tower as towers
from neva.train.feed import Feed
from neva.train.learner import Learner
from neva.train.loop import run
from neva.train.recipe import Recipe
from neva.train.tower import Tower

CACHED = Recipe(
    batch_size=4, max_steps=4, max_length=256, row_tokens=256, threads=1, feature_cache=True,
    learning_rate=1e-2, seed=7,
)  # fmt: skip


def test_it_comes_for_what_is_new_and_leaves(
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loads: list[object] = []

    def counted(*given: object, **named: object) -> object:
        loads.append(named.get("without"))
        return load_model(*given, **named)

    monkeypatch.setattr(towers, "load_model", counted)
    for times in (1, 1):  # the second run finds the cache complete
        tower = Tower(parent, "cpu", torch.bfloat16)
        feed = Feed.open(CACHED, parent, [data], pictures)
        feed.attach(tower, print)
        assert loads == [["language"]] * times and not tower.loaded
        with feed:
            rows = [row for row in feed.next_step().rows if row.features is not None]
        assert rows and all(row.images is None for row in rows)
    assert Learner(parent, CACHED, tower=False).model.model.vision_tower is None


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_what_a_run_without_it_writes_is_whole(
    stage: str, parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """The tower's own bits, and every tensor of the parent."""
    run(CACHED.with_values(stage=stage), parent.path, [data], pictures, tmp_path / "run")
    before, after = read_tensors(parent), read_tensors(Checkpoint.open(tmp_path / "run" / "final"))
    assert sorted(before) == sorted(after)
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert {name for name in before if name.startswith("vision_tower")} <= same < set(before)
    if stage == "pretrain":
        assert {n for n in before if n.startswith("language_model")} <= same


def test_a_probe_asks_about_archived_and_cached_images(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """Out of the stores that the run learns from; one of the images no record names."""
    import zipfile

    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for picture in pictures.iterdir():
            file.write(picture, picture.name)
        file.write(pictures / "0.png", "only/asked.png")
    questions = tmp_path / "probe.json"
    asked = [{"image": name, "question": "Which?"} for name in ("1.png", "only/asked.png")]
    questions.write_text(json.dumps(asked))
    answers = {}
    for name, cache in (("live", False), ("cached", True)):
        recipe = CACHED.with_values(feature_cache=cache, precision="fp32", probe_every=2)
        out = tmp_path / name
        run(recipe, parent.path, [data], archive, out, probe=questions)
        lines = (out / "probe" / "answers.jsonl").read_text().splitlines()
        answers[name] = [json.loads(line) for line in lines]
        assert (out / "probe" / "2-0.jpg").is_file()
    assert answers["live"][0] == answers["cached"][0]
    assert [line["step"] for line in answers["cached"]] == [0, 2, 4]


def test_the_tower_alone_computes_the_same(parent: Checkpoint) -> None:
    from neva.model.arrays import as_array
    from neva.model.features import image_features

    squares = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    tower = Tower(parent, "cpu", torch.float32)
    whole = load_model(parent, dtype=torch.float32)
    expected = as_array(image_features(whole, torch.from_numpy(squares), parent.pixels))
    np.testing.assert_array_equal(tower.features(squares), expected)
    tower.let_go()
    np.testing.assert_array_equal(tower.features(squares), expected)
