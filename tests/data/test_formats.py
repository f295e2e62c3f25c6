"""The public data sets in their true forms: CC3M, LCS, Instruct, mix665k, NeVA, WebDataset."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neva.data import Dataset, Encoding, Flaw, Record, encode_record, open_images, scan_records
from neva.data.check import check
from neva.data.datasets import open_stores
from neva.data.records import data_sha256
from neva.errors import ImageError
from neva.images import read_image
from neva.prompts import ImageSlot


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield


def picture(kind: str = "JPEG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def write(path: Path, records: list[dict[str, Any]], lines: bool = False) -> Path:
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    path.write_text(text, encoding="utf-8")
    return path


def verify(data: Path, places: tuple[str, ...], encoding: Encoding) -> list[Record | Flaw]:
    """All is well with the data by `check`, its images in those places; its entries."""
    one = Dataset(str(data), places)
    entries = scan_records(data)
    report = check(entries, open_stores([one]), encoding, names=[one.name])
    assert report.ok, report.problems
    return entries


def test_cc3m_595k_with_its_zip(tmp_path: Path, encoding: Encoding) -> None:
    """Bare names, the image before or after the instruction, images.zip as it is downloaded."""
    data = write(tmp_path / "chat.json", [
        {"id": "GCC_train_002582585", "image": "GCC_train_002582585.jpg",
         "conversations": turns("Provide a brief description of the given image.\n<image>",
                                "olive oil is a healthy ingredient used liberally .")},
        {"id": "GCC_train_000000001", "image": "GCC_train_000000001.jpg",
         "conversations": turns("<image>\nWrite a terse summary.", "a cat .")},
    ])  # fmt: skip
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("GCC_train_002582585.jpg", picture())
        archive.writestr("GCC_train_000000001.jpg", picture(seed=1))
    entries = verify(data, (str(tmp_path / "images.zip"),), encoding)
    for entry in entries:
        assert isinstance(entry, Record)
        assert entry.conversation.turns[0].parts[0] == ImageSlot(0)


def test_lcs_558k_with_sub_folders(tmp_path: Path, encoding: Encoding) -> None:
    data = write(tmp_path / "blip_laion_cc_sbu_558k.json", [
        {"id": "004539375", "image": "00453/004539375.jpg",
         "conversations": turns(
             "Render a clear and concise summary of the photo.\n<image>",
             "select luxury furniture 3 - inch gel memory foam mattress topper")},
    ])  # fmt: skip
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.mkdir("00453")
        archive.writestr("00453/004539375.jpg", picture())
    verify(data, (str(tmp_path / "images.zip"),), encoding)


def test_mix665k_from_its_archives(tmp_path: Path, encoding: Encoding) -> None:
    """Six sources under one root, a GIF called .jpg, ShareGPT rows without an image."""
    names = [
        "coco/train2017/000000033471.jpg", "gqa/images/2354786.jpg",
        "ocr_vqa/images/0439589783.jpg", "textvqa/train_images/a1b2.jpg",
        "vg/VG_100K/2.jpg", "vg/VG_100K_2/3.jpg",
    ]  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"id": name[-12:-4], "image": name, "conversations": turns(
            "<image>\nWhat are the colors?\nAnswer the question using a single word or phrase.",
            "White", "Is it big?", "No")}
        for name in names
    ]  # fmt: skip
    rows.append({"id": "wgByO4Y_0", "model": "", "conversations": turns(
        'Write <img src="x.png"> and <image> in HTML', "There.")})  # fmt: skip
    data = write(tmp_path / "llava_v1_5_mix665k.json", rows)
    inside = {
        "train2017.zip": ["train2017/000000033471.jpg"], "gqa.zip": ["images/2354786.jpg"],
        "textvqa.zip": ["train_images/a1b2.jpg"], "vg1.zip": ["VG_100K/2.jpg"],
        "vg2.zip": ["VG_100K_2/3.jpg"],
    }  # fmt: skip
    for file, held in inside.items():
        with zipfile.ZipFile(tmp_path / file, "w") as archive:
            for name in held:
                archive.writestr(name, picture())
    (tmp_path / "ocr" / "images").mkdir(parents=True)
    (tmp_path / "ocr" / "images" / "0439589783.jpg").write_bytes(picture("GIF"))
    prefixes = ["coco=train2017.zip", "gqa=gqa.zip", "ocr_vqa=ocr", "textvqa=textvqa.zip",
                "vg=vg1.zip", "vg=vg2.zip"]  # fmt: skip
    places = tuple("=".join((p.split("=")[0], str(tmp_path / p.split("=")[1]))) for p in prefixes)
    entries = verify(data, places, encoding)
    assert isinstance(entries[-1], Record) and entries[-1].images == ()
    sample = encode_record(entries[-1], encoding)
    assert sample.encoded.images == () and encoding.image_token_id not in sample.encoded.ids


def test_several_images_in_a_record(tmp_path: Path, encoding: Encoding) -> None:
    data = write(tmp_path / "data.json", [
        {"id": 1, "image": ["a.jpg", "b/c.jpg"], "conversations": turns(
            "<image>\n<image>\nWhich is larger?", "The second.")},
    ])  # fmt: skip
    (tmp_path / "i" / "b").mkdir(parents=True)
    for name in ("a.jpg", "b/c.jpg"):
        (tmp_path / "i" / name).write_bytes(picture())
    [entry] = verify(data, (str(tmp_path / "i"),), encoding)
    assert isinstance(entry, Record)
    assert len(encode_record(entry, encoding).encoded.images) == 2


def test_neva_lines_with_tags_and_labels(tmp_path: Path, encoding: Encoding) -> None:
    """NeMo's form: a tag in the text, a mask, a label a turn, a tar of images."""
    data = write(tmp_path / "neva.jsonl", [
        {"system": "", "mask": "User", "conversations": [
            {"from": "User", "value": 'What is it? <img src="x/1.jpg">', "label": None},
            {"from": "Assistant", "value": "A cat.",
             "label": "quality:4,toxicity:0,creativity:1"}]},
    ], lines=True)  # fmt: skip
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        info = tarfile.TarInfo("./x/1.jpg")
        info.size = len(picture())
        archive.addfile(info, io.BytesIO(picture()))
    [entry] = verify(data, (str(tmp_path / "images.tar"),), encoding)
    assert isinstance(entry, Record) and entry.images == ("x/1.jpg",)
    labels = entry.conversation.turns[1].labels
    assert labels == {"quality": 4, "toxicity": 0, "creativity": 1}


def shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_webdataset_shards_are_records(tmp_path: Path, encoding: Encoding) -> None:
    llava = {"id": "one", "image": "elsewhere.jpg", "conversations": turns("<image>\nQ?", "A.")}
    energon = turns("<image>\nQ?", "B.")
    shard(tmp_path / "s-000.tar", {
        "a/001.jpg": picture(), "a/001.json": json.dumps(llava).encode(),
        "a/002.png": picture("PNG"), "a/002.json": json.dumps(energon).encode(),
        "a/003.jpg": picture(), "a/003.json": b"{broken",
    })  # fmt: skip
    shard(tmp_path / "s-001.tar", {
        "000.jpg": picture(), "000.txt": b"a cat .", "000.json": b'{"url": "u", "width": 30}',
        "001.jpg": picture(), "001.json": b'{"caption": "a dog ."}',
        "002.jpg": picture(), "002.json": b'{"width": 30}',
        "003.json": json.dumps(turns("Only text?", "Yes.")).encode(),
    })  # fmt: skip
    pattern = Path(f"{tmp_path}/s-{{000..001}}.tar")
    entries = scan_records(pattern)
    good = {entry.id: entry for entry in entries if isinstance(entry, Record)}
    assert good.keys() == {"one", "a/002", "000", "001", "003"}
    assert {e.id: e.sentence for e in entries if isinstance(e, Flaw)}.keys() == {"a/003", "002"}
    assert good["one"].images == ("a/001.jpg",)
    assert good["000"].conversation.turns[1].parts == ("a cat .",)
    report = check(list(good.values()), open_stores([Dataset(str(pattern))]), encoding)
    assert report.ok and report.images == 4 and report.text_only == 1
    before = data_sha256(pattern)
    shard(tmp_path / "s-001.tar", {"000.jpg": picture(), "000.txt": b"a dog ."})
    assert data_sha256(pattern) != before
    assert open_images(str(pattern)).read("000.jpg").size == (30, 20)


def test_shards_with_the_same_keys_keep_their_own_pictures(tmp_path: Path) -> None:
    """WebDataset allows it; the second caption is not learned on the first shard's picture."""
    pictures = [picture(seed=1), picture(seed=2)]
    for folder, data in zip("ab", pictures, strict=True):
        (tmp_path / folder).mkdir()
        told = {"image": "other.jpg", "conversations": turns("<image>\nQ?", folder)}
        shard(tmp_path / folder / "s.tar", {
            "0.jpg": data, "0.txt": folder.encode(), f"only-{folder}.jpg": data,
            f"only-{folder}.txt": b"x", "told.json": json.dumps(told).encode(), "other.jpg": data,
        })  # fmt: skip
    pattern = f"{tmp_path}/{{a,b}}/s.tar"
    entries = scan_records(Path(pattern))
    records = [entry for entry in entries if isinstance(entry, Record)]
    assert len(records) == len(entries) == 6
    store = open_images(pattern)
    for record in records:
        answer, name = record.conversation.turns[1].parts[0], record.images[0]
        place = {"a": 0, "b": 1}.get(str(answer), "only-b" in name)
        assert store.read(name).digest == read_image(pictures[place]).digest
    assert [record.images[0] for record in records[:2]] == ["a/s.tar/0.jpg", "only-a.jpg"]
    assert store.where("b/s.tar/0.jpg") == f"{tmp_path}/b/s.tar:0.jpg"
    stamps = [store.stamp(f"{folder}/s.tar/0.jpg") for folder in "ab"]
    assert None not in stamps and stamps[0] != stamps[1]
    with pytest.raises(ImageError, match=r"b/s\.tar:only-a\.jpg does not exist"):
        store.read("b/s.tar/only-a.jpg")


def test_samples_of_shards_that_lost_a_part_are_named(tmp_path: Path) -> None:
    """A caption whose picture has another form is no text to learn; a lone picture is not lost."""
    shard(tmp_path / "s.tar", {
        "0.bmp": picture("BMP"), "0.txt": b"a cat .", "1.JPG": picture(), "1.TXT": b"a dog .",
        "2.jpg": picture(), "3.avif": b"?", "3.json": json.dumps(turns("<image>", "A")).encode(),
        "4.tiff": b"?", "4.json": json.dumps({"conversations": turns("<image>", "A")}).encode(),
        "5.npy": b"?", "5.json": json.dumps(turns("Only text?", "Yes.")).encode(),
        "._2.jpg": b"?", "README.md": b"?", "7.txt": b"words",
    })  # fmt: skip
    entries = scan_records(tmp_path / "s.tar")
    images = {entry.id: entry.images for entry in entries if isinstance(entry, Record)}
    assert images == {"1": ("1.JPG",), "5": (), "7": ()}
    flaws = {entry.id: entry.sentence for entry in entries if isinstance(entry, Flaw)}
    assert flaws.keys() == {"0", "2", "3", "4"}
    assert "0.bmp is none of .jpg" in flaws["0"]
    assert flaws["2"] == "2.jpg has no .txt or .json beside it; add one"
