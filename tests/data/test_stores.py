"""Pictures in folders, tars, zips and shards: the same pixels, nothing unpacked, no tricks."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_pictures import NAMES

from neva.data import archive_index, open_images
from neva.data.archives import Archive
from neva.data.stores import expand
from neva.errors import DataError, ImageError
from neva.images import Limits, read_image


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield


def tar(path: Path, files: dict[str, Path], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, file in files.items():
            archive.add(file, arcname=name)
    return path


def zipped(path: Path, files: dict[str, Path], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path


LONG = "deep/" * 30 + "one.png"  # longer than a tar header's 100 letters


@pytest.mark.parametrize("kind", ["ustar", "gnu", "pax", "stored", "deflated"])
def test_the_same_pixels_from_every_archive(kind: str, pictures: Path, tmp_path: Path) -> None:
    files = {f"coco/train/{name}": pictures / name for name in NAMES}
    if kind != "ustar":
        files[LONG] = pictures / NAMES[0]
    forms = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
    path = tmp_path / "images.bin"  # told by its bytes, not by its name
    if kind in forms:
        tar(path, files, forms[kind])
    else:
        zipped(path, files, methods[kind])
    store = open_images(path)
    for name, file in files.items():
        one, other = store.read(name), read_image(file)
        assert one.digest == other.digest and np.array_equal(one.array, other.array)
    assert store.stamp("coco/train/none.png") is None
    with pytest.raises(ImageError, match=r"images\.bin:none\.png does not exist"):
        store.read("none.png")
    inside = open_images(f"{path}/coco/train")
    assert inside.read(NAMES[1]).digest == read_image(pictures / NAMES[1]).digest
    with pytest.raises(DataError, match="no folder 'gqa'"):
        open_images(f"{path}/gqa")


def test_an_index_is_made_once_and_again_when_the_archive_changes(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Path] = []
    scan = archive_index._scan_tar
    monkeypatch.setattr(archive_index, "_scan_tar", lambda p: (scans.append(p), scan(p))[1])
    path = tar(tmp_path / "a.tar", {"x.png": pictures / NAMES[0]})
    first = open_images(path).stamp("x.png")
    assert open_images(path).stamp("x.png") == first and len(scans) == 1
    tar(path, {"x.png": pictures / NAMES[1], "y.png": pictures / NAMES[2]})
    os.utime(path, ns=(1, 1))
    again = open_images(path)
    assert again.read("y.png").digest == read_image(pictures / NAMES[2]).digest
    assert again.stamp("x.png") != first and len(scans) == 2
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:50])
    assert open_images(path).read("y.png") and len(scans) == 3


def test_tricks_with_paths_and_links(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    data = (pictures / NAMES[0]).read_bytes()
    with tarfile.open(path, "w") as archive:
        for name in ("../out.png", "/abs.png", "a/../../b.png", "./fine.png", "fine2.png"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind, target in (
            ("link.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.png", tarfile.LNKTYPE, "fine2.png"),
            ("fifo", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    opened = Archive.open(path)
    assert opened is not None
    assert set(opened.index.names) == {"fine.png", "fine2.png", "hard.png"}
    store = open_images(path)
    assert store.read("./fine.png").digest == store.read("hard.png").digest


def test_damage_is_said(pictures: Path, tmp_path: Path) -> None:
    files = {name: pictures / name for name in NAMES}
    path = zipped(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED)
    store = open_images(path)
    whole = path.read_bytes()
    with path.open("r+b") as file:  # after it was indexed: bytes within the first file
        file.seek(80)
        file.write(b"\0" * 40)
    with pytest.raises(ImageError, match=r"a\.zip:0\.png cannot be read.*damaged"):
        store.read(NAMES[0])
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read as a zip archive"):
        open_images(path).stamp(NAMES[0])
    cut = tar(tmp_path / "a.tar", files)
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cut off|cannot be read"):
        open_images(cut).stamp(NAMES[0])
    packed = tmp_path / "a.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(pictures / NAMES[0], "x.png")
    with pytest.raises(DataError, match="compressed as a whole"):
        open_images(packed)


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 2**20)
    with pytest.raises(ImageError, match="more than the 1,000 allowed"):
        open_images(path).read("big.png", Limits(bytes=1000))


def test_shards_and_mounts(pictures: Path, tmp_path: Path) -> None:
    for number in range(3):
        tar(tmp_path / f"s-{number:03}.tar", {NAMES[number]: pictures / NAMES[number]})
    store = open_images(f"{tmp_path}/s-{{000..002}}.tar")
    assert [store.read(n).digest for n in NAMES[:3]] == [
        read_image(pictures / n).digest for n in NAMES[:3]
    ]
    with pytest.raises(DataError, match=r"s-003\.tar does not exist"):
        open_images(f"{tmp_path}/s-{{000..003}}.tar")
    coco = tmp_path / "coco"
    (coco / "train").mkdir(parents=True)
    shutil.copy(pictures / NAMES[5], coco / "train" / "c.png")
    one = zipped(tmp_path / "vg1.zip", {"VG_1/x.png": pictures / NAMES[3]})
    two = zipped(tmp_path / "vg2.zip", {"VG_2/y.png": pictures / NAMES[4]})
    both = open_images([f"coco={coco}", f"vg={one}", f"vg={two}"])
    for name, source in (("coco/train/c.png", 5), ("vg/VG_1/x.png", 3), ("vg/VG_2/y.png", 4)):
        assert both.read(name).digest == read_image(pictures / NAMES[source]).digest
        assert both.stamp(name) is not None
    assert both.stamp("vg/VG_3/z.png") is None and both.stamp("gqa/z.png") is None
    with pytest.raises(ImageError, match=r"vg1\.zip:VG_3/z\.png or .*vg2\.zip:VG_3/z\.png"):
        both.read("vg/VG_3/z.png")
    with pytest.raises(ImageError, match="none of the images' places"):
        both.read("gqa/z.png")


def test_what_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder or archive"):
        open_images(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="neither a folder nor"):
        open_images(tmp_path / "text")
    assert expand("a-{08..10}.{tar,zip}")[:3] == ["a-08.tar", "a-08.zip", "a-09.tar"]
