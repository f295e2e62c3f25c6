"""Panoramas: read as they are packed, seen the right way up, never named."""

import base64
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image
from zoo.panoramas import FIELD, developed, environments, looked_at, read, view
from zoo.snapshots import AROUND, Snapshots

SIZE = (90, 60)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one panorama: a blue sky over green ground, a lamp beyond white."""
    light = np.zeros((32, 64, 3), np.float32)
    light[:16], light[16:] = (0.1, 0.2, 0.9), (0.1, 0.5, 0.1)
    light[2, 3], light[5, 5] = 900.0, -3.0  # packed panoramas have such
    plain = tmp_path / "field.exr"
    with OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}) as made:
        made.write(str(plain))
    packed = base64.b64encode(plain.read_bytes()).decode()
    (tmp_path / "hdri").mkdir()
    module = f"export default 'data:application/exr;base64,{packed}';\n"
    (tmp_path / "hdri" / "field.exr.js").write_text(module)
    (tmp_path / "hdri" / "field.exr.d.ts").write_text(module)
    return tmp_path


def test_a_panorama_is_read_as_it_is_packed(package: Path, tmp_path: Path) -> None:
    (file,) = environments(package)
    light = read(file)
    assert light.shape == (32, 64, 3) and light.min() == 0 and light.max() == 900
    assert np.allclose(light[20, 20], (0.1, 0.5, 0.1))
    other = tmp_path / "other.exr.js"
    other.write_text("export default 'data:image/webp;base64,AAAA'")
    with pytest.raises(ValueError, match="other"):
        read(other)


def test_the_sky_is_above(package: Path) -> None:
    (file,) = environments(package)
    level = 0
    for seed in range(20):
        pixels = np.asarray(view(file, SIZE, np.random.default_rng(seed))).astype(float)
        assert pixels.shape == (60, 90, 3)
        blue = pixels[..., 2] - pixels[..., 1]
        assert blue[:20].mean() >= blue[-20:].mean() - 1
        level += blue[:10].mean() > 0 > blue[-10:].mean()
        again = view(file, SIZE, np.random.default_rng(seed))
        assert np.array_equal(pixels, np.asarray(again))
    assert level > 10


def test_a_camera_sees_the_angle_it_is_given() -> None:
    for seed in range(10):
        down, along = looked_at((101, 51), np.random.default_rng(seed))
        assert down.shape == along.shape == (51, 101)
        assert (down >= 0).all() and (down <= np.pi).all()
        towards = np.stack(
            [np.sin(down) * np.cos(along), np.sin(down) * np.sin(along), np.cos(down)], -1
        )
        across = np.degrees(np.arccos((towards[25, 0] * towards[25, -1]).sum()))
        assert FIELD[0] - 1 < across < FIELD[1] + 1
        assert (np.diff(down[:, 50]) > 0).all() or down[:, 50].max() > np.pi - 0.5


def test_highlights_do_not_blind_the_rest() -> None:
    light = np.full((8, 8, 3), 0.2, np.float32)
    light[0, 0] = 5000
    shown = developed(light, np.random.default_rng(0))
    assert shown.max() <= 1 and 0.2 < np.median(shown) < 0.8


def test_some_snapshots_are_views_of_panoramas(package: Path, tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), (250, 10, 10)).save(tmp_path / "red.png")
    both = Snapshots((tmp_path / "red.png",), environments(package))
    red = 0
    for seed in range(60):
        pixels = np.asarray(both.view(np.random.default_rng(seed)))
        red += bool(pixels.std((0, 1)).max() < 1e-6)
    assert abs(red / 60 - (1 - AROUND)) < 0.2
