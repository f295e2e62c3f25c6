"""Photographs: all parts are cut from the pinned wheels, and an answer is one of three."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from zoo.photographs import CROPS, PACKAGES, PHOTOGRAPHS, Photographs, cut, page

from neva.evaluate import Judged

TASK = Photographs()


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, Path]:
    """Wheels with a picture of four colours in the place of every photograph."""
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (20, 0, 40, 10))
    picture.paste("lime", (0, 10, 20, 20))
    picture.paste("white", (20, 10, 40, 20))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    made = {package: tmp_path / f"{package}.whl" for package in PACKAGES}
    for package, path in made.items():
        with zipfile.ZipFile(path, "w") as wheel:
            for one in PHOTOGRAPHS:
                if one.package == package:
                    wheel.writestr(one.file, buffer.getvalue())
    return made


def test_every_part_is_cut_where_it_says(wheels: dict[str, Path], tmp_path: Path) -> None:
    cut(wheels, tmp_path / "parts")
    items = TASK.load(tmp_path / "parts")
    assert len(items) == len(PHOTOGRAPHS) * len(CROPS)
    corner = {"top left": (255, 0, 0), "top right": (0, 0, 255), "bottom left": (0, 255, 0),
              "bottom right": (255, 255, 255)}  # fmt: skip
    for item in items:
        assert item.image is not None
        with Image.open(item.image) as image:
            part = str(item.facts["part"])
            assert image.size == ((40, 20) if part == "whole" else (20, 10))
            if part in corner:
                assert image.getcolors() == [(200, corner[part])]
    assert {item.kind for item in items} == {"whole", "crop"}


@pytest.mark.parametrize(
    ("answer", "read", "credit"),
    [
        ("I am not sure.", "not sure", 1.0),
        ("This is a photograph.", "not sure", 1.0),
        ("a cat", "right", 0.0),
        ("dog", "invented", 0.0),
        ("", "invented", 0.0),
    ],
)
def test_an_answer_is_one_of_three(answer: str, read: str, credit: float) -> None:
    cat = next(item for item in TASK.load(Path("x")) if item.id == "chelsea, whole")
    assert TASK.judge(cat, answer) == (read, credit)


def test_shares_add_up() -> None:
    items = TASK.load(Path("x"))
    answers = ["not sure", "cat", "rocket"]
    judged = [Judged(item, a, *TASK.judge(item, a))
              for item, a in zip(items, answers * 100, strict=False)]  # fmt: skip
    metrics = TASK.metrics(judged)
    assert metrics["n.whole"] == len(PHOTOGRAPHS)
    for kind in ("", ".whole", ".crop"):
        shares = [metrics[f"{read}{kind}"] for read in ("not sure", "right", "invented")]
        assert sum(shares) == pytest.approx(100)


def test_every_photograph_has_a_licence_and_is_on_the_page() -> None:
    items = TASK.load(Path("x"))
    judged = [Judged(items[0], "I am not sure.", "not sure", 1.0)]
    text = page(judged, "sheet.png", "ab" * 32)
    assert "| astronaut | **I am not sure.** |" in text
    for one in PHOTOGRAPHS:
        assert one.licence and one.credit and one.names
        assert f"| {one.name} | {one.package} | {one.licence} | {one.credit} |" in text
