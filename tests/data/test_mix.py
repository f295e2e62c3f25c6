"""Weighted mixes: exact counts, nothing lost, the plain order unchanged; mix files."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_pictures import NAMES

from neva.data import BatchStream, Dataset, Encoding, PreparedImages, Record, find_datasets
from neva.data.mix import Mix, one_by_one
from neva.errors import DataError
from neva.prompts import Conversation, ImageSlot, assistant, user


def test_weights_are_counts() -> None:
    mix = Mix((10, 6, 5), (1.0, 2.0, 0.4))
    assert mix.takes == (10, 12, 2) and mix.length == 24 and not mix.plain
    passes = [mix.order(3, epoch) for epoch in range(5)]
    for order in passes:
        counted = Counter(order.tolist())
        assert all(counted[place] == 1 for place in range(10))
        assert all(counted[place] == 2 for place in range(10, 16))
        assert sum(counted[place] for place in range(16, 21)) == 2
    parts = Counter(int(i) for order in passes for i in order if i >= 16)
    assert parts == dict.fromkeys(range(16, 21), 2)  # 5 passes x 2 = twice all five
    assert (passes[0] != passes[1]).any() and (mix.order(3, 0) == passes[0]).all()
    assert (mix.order(4, 0) != passes[0]).any()
    everything = np.concatenate(passes)
    for cursor in (0, 7, 24, 61, 120):
        sets = np.searchsorted([10, 16, 21], everything[:cursor], side="right")
        assert mix.counts(3, cursor) == np.bincount(sets, minlength=3).tolist()


def test_without_weights_the_order_is_the_old_one() -> None:
    expected = np.random.default_rng((5, 2)).permutation(9)
    assert (Mix((4, 5), (1.0, 1.0)).order(5, 2) == expected).all()
    assert one_by_one([9]).plain
    assert Mix((4, 5), (1.0, 0.5)).order(0, 0, shuffle=False).tolist() == [0, 1, 2, 3, 4, 5]


def records(dataset: int, count: int) -> list[Record]:
    told = Conversation((user(ImageSlot(0), "\nWhat?"), assistant("A")))
    return [Record(f"{dataset}-{i}", (NAMES[i],), told, i + 1, dataset) for i in range(count)]


def test_a_weighted_stream_resumes_exactly(folder: PreparedImages, encoding: Encoding) -> None:
    both, mix = [*records(0, 5), *records(1, 4)], Mix((5, 4), (1.0, 0.5))

    def stream() -> BatchStream:
        return BatchStream(both, [folder, folder], encoding, 3, mix=mix, seed=1, epochs=2)

    with stream() as batches:
        whole = [batch.sample_ids for batch in batches]
        assert batches.counts() == [10, 4]
    with stream() as batches:
        steps = iter(batches)
        first = [next(steps).sample_ids for _ in range(2)]
        state = json.loads(json.dumps(batches.state_dict()))
    with stream() as batches:
        batches.load_state_dict(state)
        assert first + [batch.sample_ids for batch in batches] == whole
    assert Counter(id for ids in whole for id in ids) == {r.id: 2 - r.dataset for r in both}
    other = Mix((5, 4), (1.0, 1.0))
    with (
        BatchStream(both, folder, encoding, 3, mix=other, seed=1) as batches,
        pytest.raises(DataError, match="another training data"),
    ):
        batches.load_state_dict(state)


def test_every_data_set_has_its_own_pictures(folder: PreparedImages, encoding: Encoding) -> None:
    both = [*records(0, 2), *records(1, 2)]
    with BatchStream(both, [folder, None], encoding, 4, epochs=1) as batches:
        [batch] = batches
    assert sorted(batch.sample_ids) == ["0-0", "0-1"]
    assert {problem.record for problem in batch.problems} == {2, 3}


TOML = """
# two data sets
[[datasets]]
path = "caps.json"
images = ["a.zip", "coco=b"]
weight = 2
licence = "CC-BY-NC-4.0"
name = "captions"
version = "1.0"
[[datasets]]
path = "/abs/chat.json"
"""
YAML = """
datasets:
  - path: caps.json
    images: [a.zip, "coco=b"]
    weight: 2
    licence: CC-BY-NC-4.0
    name: captions
    version: "1.0"
  - {path: /abs/chat.json}
"""
JSON = json.dumps(
    {
        "datasets": [
            {"path": "caps.json", "images": ["a.zip", "coco=b"], "weight": 2,
             "licence": "CC-BY-NC-4.0", "name": "captions", "version": "1.0"},
            {"path": "/abs/chat.json"},
        ]
    }
)  # fmt: skip


@pytest.mark.parametrize("text", [TOML, YAML, JSON])
def test_mix_files(text: str, tmp_path: Path) -> None:
    mix = tmp_path / "mix"  # its kind is told by what it says
    mix.write_text(text)
    first, second = find_datasets([mix], "images", ["MIT"])[:2]
    assert first == Dataset(
        str(tmp_path / "caps.json"),
        (str(tmp_path / "a.zip"), f"coco={tmp_path / 'b'}"),
        2.0,
        "captions",
        "1.0",
        "CC-BY-NC-4.0",
    )
    assert second == Dataset("/abs/chat.json", ("images",), 1.0, "chat.json", "", "MIT")


def test_the_command_lines_weights(tmp_path: Path) -> None:
    odd = tmp_path / "odd:2"
    odd.write_text("[]")
    found = find_datasets(["a.json:0.5", "b.json", str(odd)], licences=["x", "y", "z"])
    assert [(one.path, one.weight, one.licence) for one in found] == [
        ("a.json", 0.5, "x"), ("b.json", 1.0, "y"), (str(odd), 1.0, "z"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="2 licences for 3 training files"):
        find_datasets(["a", "b", "c"], licences=["x", "y"])
    with pytest.raises(DataError, match=r"has weight -1\.0; give a number above 0"):
        find_datasets(["a.json:-1"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datasets = 3\n[[datasets]]\n", "broken TOML mix file"),
        ('{"datasets": []}', "without a list"),
        ('{"datasets": [{"weight": 1}]}', "data set 1 has no path"),
        ('{"datasets": [{"path": "a", "wieght": 1}]}', "has 'wieght', which is none of"),
        ('{"datasets": [{"path": "a", "weight": "2"}]}', "has weight '2'"),
        ('{"datasets": [{"path": "a", "images": [1]}]}', "are texts"),
    ],
)
def test_broken_mix_files(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mix").write_text(text)
    with pytest.raises(DataError, match=words):
        find_datasets([tmp_path / "mix"])
