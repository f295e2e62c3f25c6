"""The numbers of `neva stats` are those of the samples."""

from pathlib import Path

import pytest

from neva.commands.stats import describe, draw
from neva.data import Encoding, Record
from neva.data.stats import measure
from neva.errors import DataError
from neva.prompts import Conversation, ImageSlot, assistant, user


def record(answer: str) -> Record:
    told = Conversation((user(ImageSlot(0), "\nWhat?"), assistant(answer)))
    return Record(answer, ("x.png",), told, 1)


def test_counts(encoding: Encoding, tmp_path: Path) -> None:
    broken = Record("broken", (), Conversation((user("Q"),)), 3)
    found = measure([record("A" * 5), broken, record("A" * 9)], encoding)
    assert found.supervised.tolist() == [6, 10]  # a token a byte, and the end
    assert found.lengths[1] - found.lengths[0] == 4
    assert found.images.tolist() == [1, 1] and found.broken == 1
    told = found.to_json()
    assert told["supervised_quantiles"]["0%"] == 6 and told["length_quantiles"]["100%"] == max(
        found.lengths
    )
    assert f"{100 * 16 / found.lengths.sum():.1f}% of them learned" in describe(found)
    pytest.importorskip("matplotlib")
    draw(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_nothing_to_measure(encoding: Encoding) -> None:
    with pytest.raises(DataError, match="neva check"):
        measure([Record("x", (), Conversation((user("Q"),)), 1)], encoding)
