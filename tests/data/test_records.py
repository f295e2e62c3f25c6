"""LLaVA's and NeVA's files as they are in the wild, and every way in which they are broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from neva.data import Flaw, read_records, scan_records
from neva.errors import DataError
from neva.prompts import ImageSlot, Turn, assistant, user


def llava(value: str, answer: str = "Yes.", **more: Any) -> dict[str, Any]:
    told = [{"from": "human", "value": value}, {"from": "gpt", "value": answer}]
    return {"id": "a", "image": "x.jpg", "conversations": told, **more}


def write(folder: Path, *records: Any, lines: bool = False, name: str = "data.json") -> Path:
    path = folder / name
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(list(records))
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "value", ["<image>\nWhat?", "What?\n<image>", "<image>What?", " <image> What? ", "What?<image>"]
)
def test_llava_puts_the_image_first(value: str, tmp_path: Path) -> None:
    [record] = read_records(write(tmp_path, llava(value)))
    assert record.images == ("x.jpg",) and record.id == "a" and record.line == 1
    assert record.conversation.turns == (user(ImageSlot(0), "\nWhat?"), assistant("Yes."))


@pytest.mark.parametrize(
    ("value", "images", "parts"),
    [
        ("<image>", "x", (ImageSlot(0),)),
        ("<image>\n<image>\nSame?", ["x", "y"], (ImageSlot(0), ImageSlot(1), "\nSame?")),
        ("Is <image> like <image>?", ["x", "y"],
         ("Is ", ImageSlot(0), " like ", ImageSlot(1), "?")),
        ("<image> and <image>", ["x", "y"], (ImageSlot(0), " and ", ImageSlot(1))),
        ("The tag <image> in HTML", None, ("The tag <image> in HTML",)),
        ("No picture", [], ("No picture",)),
        ('<img src="x"> is HTML', "", ('<img src="x"> is HTML',)),
    ],
)  # fmt: skip
def test_images_in_their_places(
    value: str, images: Any, parts: tuple[Any, ...], tmp_path: Path
) -> None:
    raw = llava(value, image=images)
    if images is None or images == []:
        del raw["image"]
    [record] = read_records(write(tmp_path, raw))
    assert record.conversation.turns[0].parts == parts
    assert record.images == tuple([images] if isinstance(images, str) and images else images or ())


def test_neva_lines(tmp_path: Path) -> None:
    raw = {
        "system": "Be good.",
        "mask": "User",
        "conversations": [
            {"from": "User", "value": 'Look: <img src="a/b.jpg"> What?', "label": None},
            {"from": "Assistant", "value": "A cat.", "label": "quality:4,toxicity:0"},
            {"from": "User", "value": 'And\n<img src="c.jpg">', "label": None},
            {"from": "Assistant", "value": "A dog.", "label": None},
        ],
    }
    record, second = read_records(write(tmp_path, raw, {**raw, "id": 7}, lines=True))
    assert (record.id, second.id, second.line) == ("#1", "7", 2)
    assert record.images == ("a/b.jpg", "c.jpg")
    assert record.conversation.system == "Be good."
    assert record.conversation.turns == (
        user("Look: ", ImageSlot(0), " What?"),
        Turn("assistant", ("A cat.",), {"quality": 4, "toxicity": 0}),
        user(ImageSlot(1), "\nAnd"),
        assistant("A dog."),
    )


def test_sharegpt_oddities(tmp_path: Path) -> None:
    """A leading answer and a trailing question are left out; a system turn is the system text."""
    told = [
        {"from": "system", "value": "Be brief."},
        {"from": "gpt", "value": "stray"},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": " Hello \n"},
        {"from": "human", "value": "More?"},
    ]
    [record] = read_records(write(tmp_path, {"id": 3, "conversations": told}))
    assert record.id == "3" and record.conversation.system == "Be brief."
    assert record.conversation.turns == (user("Hi"), assistant("Hello"))


BAD = {
    "not an object": (["x"], "not a JSON object"),
    "no conversations": ({"id": "a"}, "no list of conversations"),
    "no turns": ({"id": "a", "conversations": []}, "nothing to learn"),
    "only a question": (
        {"id": "a", "conversations": [{"from": "human", "value": "Hi"}]},
        "nothing to learn",
    ),
    "number as text": ({"id": "a", "conversations": [{"from": "human", "value": 3}]}, "turn 1"),
    "who": ({"id": "a", "conversations": [{"from": "tool", "value": "x"}]}, "'tool'"),
    "twice": (
        {"id": "a", "conversations": [{"from": f, "value": "x"} for f in ("user", "user", "gpt")]},
        "turn 2 should be the assistant's",
    ),
    "place without image": (llava("<image> <image>"), "1 image.* 2 <image>"),
    "image without place": (llava("What?"), "1 image.* 0 <image>"),
    "empty image": (llava("<image>", image=""), "0 image.* 1 <image>"),
    "image is a number": (llava("<image>", image=7), "file name"),
    "outside": (llava("<image>", image="../secret.png"), "leaves the images folder"),
    "absolute": (llava("<image>", image="/etc/passwd"), "leaves the images folder"),
    "empty answer": (llava("<image>", answer=" \n"), "turn 2 is an empty answer"),
    "label": (
        {"id": "a", "conversations": [{"from": "human", "value": "x"},
                                      {"from": "gpt", "value": "y", "label": "good"}]},
        "label of its turn 2",
    ),
    "system": (llava("<image>", system=["x"]), "system is not a text"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_named(name: str, tmp_path: Path) -> None:
    raw, words = BAD[name]
    path = write(tmp_path, llava("<image> ok", id="good"), raw)
    good, flaw = scan_records(path)
    assert isinstance(flaw, Flaw) and flaw.line == 2
    with pytest.raises(DataError, match=words) as caught:
        read_records(path)
    assert str(path) in str(caught.value) and repr(flaw.id) in str(caught.value)
    assert good.id == "good"


def test_an_address_in_a_tag_is_refused(tmp_path: Path) -> None:
    for source in ("http://example.com/a.png", "data:image/png;base64,AAAA"):
        raw = llava(f'<img src="{source}"> What?')
        del raw["image"]
        [flaw] = scan_records(write(tmp_path, raw, lines=True))
        assert isinstance(flaw, Flaw) and "save the image as a file" in flaw.sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"[]", "no records"),
        (b"id,image\n", "not JSON"),
        (b'[{"id": 1},\n {"id": 2,,}]', "line 2, column 11"),
        (b'{"id": 1}\n{"id": 2\n', "line 2, column"),
        (b'[{"id": 1}', "line 1, column"),
        (b'["\xff"]', "byte 2 is not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_broken_files(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        scan_records(path)
    assert str(path) in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        scan_records(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        scan_records(tmp_path)


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([llava("<image>")]).encode())
    assert len(read_records(path)) == 1
