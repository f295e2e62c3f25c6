"""What a checkpoint says of its data and parents: licences, one order, nothing lost in writing."""

from pathlib import Path

import pytest

from neva.model import DatasetUsed, Provenance
from neva.model.provenance import read_provenance


@pytest.mark.parametrize(
    ("licence", "bound"),
    [
        ("CC-BY-NC-4.0", True),
        ("cc by-nc-sa 4.0", True),
        ("CC_BY_NC_4.0", True),
        ("non_commercial", True),
        ("Attribution-NonCommercial 4.0", True),
        ("for non commercial use", True),
        ("Research use only", True),
        ("Apache-2.0", False),
        ("CC-BY-4.0", False),
        ("MIT, from the NCSA", False),
        ("", False),
    ],
)
def test_which_licences_forbid_commerce(licence: str, bound: bool) -> None:
    made = Provenance("finetuned", "v1", datasets=(DatasetUsed("set", licence=licence),))
    assert bool(made.non_commercial) is bound
    assert ("set" in made.non_commercial) is bound


def test_parents_are_nearest_first_and_named_once() -> None:
    composed = Provenance("composed", "v1", parents=("clip", "lm"))
    trained = Provenance("pretrained", "v1", parents=composed.descent("c"))
    assert trained.parents == ("c", "clip", "lm")
    assert trained.descent("t", "adapter") == ("t", "adapter", "c", "clip", "lm")
    assert trained.descent("c") == ("c", "clip", "lm")


def test_all_is_written_and_read(tmp_path: Path) -> None:
    used = DatasetUsed("set", "1", "ab", "MIT", 10, 2, 0.5, 5)
    made = Provenance("finetuned", "v1", datasets=(used,), parents=("a", "b"))
    made.write(tmp_path)
    assert read_provenance(tmp_path / "neva.json") == made
