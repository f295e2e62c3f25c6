"""A sealed folder knows when it has lost something; a whole one is never replaced."""

from pathlib import Path

import pytest

from neva.sealing import SIZES, put_in_place, seal, whole


def sealed(folder: Path, text: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "a.bin").write_text(text)
    (folder / "empty").touch()
    seal(folder)
    return folder


def test_a_loss_is_noticed(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "made")
    (folder / "later").mkdir()  # what others add is theirs
    assert whole(folder)
    (folder / "a.bin").write_text("weight")
    assert not whole(folder)
    (folder / "a.bin").write_text("weights")
    assert whole(folder)
    (folder / "empty").unlink()
    assert not whole(folder)


@pytest.mark.parametrize("text", [None, "", "[]", "3", '{"a.bin": null}', '{"a.bin'])
def test_what_has_no_sizes_is_not_whole(tmp_path: Path, text: str | None) -> None:
    folder = sealed(tmp_path / "made")
    (folder / SIZES).unlink()
    if text is not None:
        (folder / SIZES).write_text(text)
    assert not whole(folder)
    assert not whole(tmp_path / "nowhere")


@pytest.mark.parametrize("there", [True, False])
def test_the_damaged_is_replaced(tmp_path: Path, there: bool) -> None:
    made, place = sealed(tmp_path / "aside", "fresh"), tmp_path / "place"
    if there:
        (sealed(place) / "a.bin").unlink()
    put_in_place(made, place)
    assert whole(place) and (place / "a.bin").read_text() == "fresh"
    assert list(tmp_path.iterdir()) == [place]


def test_who_was_faster_stays(tmp_path: Path) -> None:
    made, place = sealed(tmp_path / "aside", "fresh"), sealed(tmp_path / "place")
    put_in_place(made, place)
    assert (place / "a.bin").read_text() == "weights"
    assert sorted(tmp_path.iterdir()) == [made, place]


def test_a_place_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "nothing", tmp_path / "place")
