"""Tux Paint's stamps: what a caption names, what counts, and which are photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neva.errors import DataError
from neva.evaluate import TASKS, Item, read
from neva.evaluate.stamps import kind_of, names_of, plain
from neva.images import read_image

TASK = TASKS["stamps"]
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9mm"><path d="M0 0h9v9H0z"/></svg>'
)


@pytest.fixture
def stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "stamps"
    captions = {
        "animals/birds/heron": "A great blue heron.\nfr.utf8=Un héron.",
        "animals/cartoon/lion": "A happy lion!",
        "food/cheese": "Say cheese!",
        "symbols/A": "The letter A.",
        "symbols/B": "The letter B.",
        "clothes/hat": "A brown hat.",
    }
    for name, caption in captions.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(caption)
        if name == "clothes/hat":
            path.with_suffix(".svg").write_text(SVG)
        else:
            Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(path.with_suffix(".png"))
    (root / "food" / "lost.txt").write_text("A pear.")
    Image.new("RGB", (8, 8)).save(root / "food" / "uncaptioned.png")
    return root


def test_takes_what_has_a_picture_and_a_name(stamps: Path) -> None:
    items = read(TASK, stamps)
    assert [(item.id, item.kind) for item in items] == [
        ("animals/birds/heron", "photo"),
        ("animals/cartoon/lion", "drawing"),
        ("clothes/hat", "drawing"),
        ("symbols/A", "symbol"),
        ("symbols/B", "symbol"),
    ]
    hat = items[2].image
    assert hat is not None
    assert read_image(hat).array.shape[1] == 256  # a size in points, as some stamps have
    bird = items[0].image
    assert bird is not None
    assert np.array_equal(read_image(bird).array[0, 0], [255, 255, 255])  # transparent: white


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("A frog.", ("frog",)),
        ("A great blue heron.", ("great blue heron", "blue heron", "heron")),
        (
            "The Spanish letter n with a tilde.",
            (
                "spanish letter n with a tilde",
                "spanish letter n",
                "letter n",
                "n",
                "letter n with a tilde",
                "n with a tilde",
            ),
        ),
        ("A pair of white pants.", ("white pants", "pants")),
        ("Some cherries.", ("cherries", "cherry", "cherrie")),
        ("A blue and yellow flag.", ("blue and yellow flag", "yellow flag", "flag")),
        ("A spider playing soccer.", ("spider playing soccer", "spider")),
        ("An albino peahen (a female peafowl, or peacock).", ("albino peahen", "peahen")),
        ("A peacock’s feather.", ("peacock's feather", "feather")),
        ("An avocado fruit.", ("avocado fruit", "fruit", "avocado")),
        ("A “Fuji” apple.", ("fuji apple", "apple")),
        ("Teddy bear.", ("teddy bear", "bear")),
        ("The letter a.", ("letter a", "a")),
        (
            "The letter SZ or sharp S.",
            ("letter sz or sharp s", "letter sz", "sz", "sz or sharp s", "sharp s"),
        ),
        ("Mercury—the planet closest to the Sun.", ("mercury",)),
        ("Say cheese!", ()),
        ("Tankers carry bulk liquids.", ()),
        ("Happy!", ()),
        ("– Because a brain is a terrible thing to waste…", ()),
        ("", ()),
    ],
)
def test_names_of_a_caption(caption: str, names: tuple[str, ...]) -> None:
    assert names_of(caption) == names


def named(caption: str) -> Item:
    return Item("x", "What is this?", None, names_of(caption))


@pytest.mark.parametrize(
    ("caption", "answer", "right"),
    [
        ("A great blue heron.", "heron", 1),
        ("A great blue heron.", "It is a blue heron.", 1),
        ("A great blue heron.", "This is The Herons!", 1),
        ("A great blue heron.", "blue", 0),
        ("A great blue heron.", "a picture of a heron", 0),
        ("A great blue heron.", "stork", 0),
        ("A great blue heron.", "", 0),
        ("A pair of glasses.", "glass", 0),
        ("The letter A.", "the letter A", 1),
        ("The letter A.", "A", 1),
        ("The letter A.", "", 0),
        ("The letter A.", "letter", 0),
        ("The letter A.", "the letter B", 0),
        ("Seven.", "7", 1),
        ("A sail boat.", "sailboat", 1),
        ("A lightbulb.", "a light bulb", 1),
        ("A jack-o'-lantern.", "jack-o-lantern", 1),
        ("The letter SZ or sharp S.", "sharp S", 1),
        ("The letter SZ or sharp S.", "S", 0),
    ],
)
def test_the_whole_answer_counts(caption: str, answer: str, right: int) -> None:
    assert TASK.judge(named(caption), answer)[1] == right


def test_floor_and_counts(stamps: Path) -> None:
    floor = TASK.floor(read(TASK, stamps))
    assert floor["accuracy"] == 20.0
    assert floor["n.symbol"] == 2
    assert floor["n.without symbols"] == 3
    assert floor["n.animals"] == 2


def test_kinds() -> None:
    assert kind_of(Path("town/flags/red.png"), drawn=False) == "drawing"
    assert kind_of(Path("seasonal/tree.png"), drawn=False) == "drawing"
    assert kind_of(Path("food/pear.png"), drawn=True) == "drawing"
    assert kind_of(Path("food/pear.png"), drawn=False) == "photo"
    assert kind_of(Path("symbols/cartoon/1.png"), drawn=True) == "symbol"


def test_plain_keeps_a_letter() -> None:
    assert plain("A") == "a"
    assert plain("It’s an Owl!") == "owl"


def test_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no captioned stamp"):
        TASK.load(tmp_path)
