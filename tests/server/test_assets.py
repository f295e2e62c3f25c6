"""NVCF's assets: announced, uploaded once by a signed URL, used by id, gone after a day."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.parse import parse_qs, urlsplit

import pytest
from echo_engine import EchoEngine, wait_until
from hostile import bomb
from server_house import CHAT, NVIDIA, WEB, House, Live, png

from neva.images import Limits as ImageLimits
from neva.server import app, run_folder
from neva.server.assets import ASSET_SECONDS, DESCRIPTION, UPLOAD_SECONDS, Assets
from neva.server.auth import Keys
from neva.server.errors import ApiError
from neva.server.run_folder import LOCK
from neva.server.settings import Limits, Settings

NEW = {"contentType": "image/png", "description": "frame 1"}
HEADERS = {"content-type": "image/png", DESCRIPTION: "frame 1"}
ANN, BOB = {"authorization": "Bearer ann-key"}, {"authorization": "Bearer bob-key"}


def create(house: House, headers: dict[str, str] | None = None) -> dict[str, str]:
    response = house.client.post("/v2/nvcf/assets", json=NEW, headers=headers)
    assert response.status_code == 200
    made: dict[str, str] = response.json()
    return made


def upload(house: House, asset: dict[str, str], data: bytes = png()) -> int:
    return house.client.put(asset["uploadUrl"], content=data, headers=HEADERS).status_code


@pytest.mark.parametrize("path", [NVIDIA, CHAT])
@pytest.mark.parametrize("gap", ["", " "])
def test_the_whole_way(house: House, path: str, gap: str) -> None:
    asset = create(house)
    assert upload(house, asset) == 200
    name = asset["assetId"]
    content = f'What is this? <img src="data:image/png;asset_id,{name}"{gap}/>'
    headers = {"NVCF-INPUT-ASSET-REFERENCES": f"{name}, {name}", "NVCF-FUNCTION-ASSET-IDS": name}
    body = {"messages": [{"role": "user", "content": content}]}
    answer = house.client.post(path, json=body, headers=headers).json()
    assert "[(8, 6) [255, 0, 0]]" in answer["choices"][0]["message"]["content"]


def test_listing_showing_deleting(house_of: Callable[..., House]) -> None:
    house = house_of()
    asset = create(house)
    shown = {"assetId": asset["assetId"], **NEW}
    path = f"/v2/nvcf/assets/{asset['assetId']}"
    assert house.client.get("/v2/nvcf/assets").json() == {"assets": [shown]}
    assert house.client.get(path).json() == {"asset": shown}
    assert house.client.delete(path).status_code == 204
    assert house.client.delete(path).status_code == 404
    assert house.client.get("/v2/nvcf/assets").json() == {"assets": []}


def test_an_upload_url_is_good_once_and_for_its_own_asset(house: House) -> None:
    first, second = create(house), create(house)
    forged = first["uploadUrl"].replace(first["assetId"], second["assetId"])
    assert upload(house, {"uploadUrl": forged}) == 403
    assert upload(house, {"uploadUrl": first["uploadUrl"][:-1] + "x"}) == 403
    assert upload(house, {"uploadUrl": first["uploadUrl"].split("?")[0]}) == 403
    wrong = {**HEADERS, "content-type": "image/jpeg"}
    assert house.client.put(first["uploadUrl"], content=b"x", headers=wrong).status_code == 403
    assert upload(house, first) == 200
    assert upload(house, first) == 403


def test_assets_belong_to_their_key(house_of: Callable[..., House]) -> None:
    keys = Keys().with_key("ann", "ann-key").with_key("bob", "bob-key")
    house = house_of(Settings(keys=keys))
    asset = create(house, ANN)
    assert upload(house, asset) == 200, "the signed URL needs no key"
    name = asset["assetId"]
    assert house.client.get("/v2/nvcf/assets", headers=BOB).json() == {"assets": []}
    assert house.client.delete(f"/v2/nvcf/assets/{name}", headers=BOB).status_code == 404
    content = f'<img src="data:image/png;asset_id,{name}" />'
    body = {"messages": [{"role": "user", "content": content}]}
    assert house.client.post(NVIDIA, json=body, headers=BOB).status_code == 404
    assert house.client.post(NVIDIA, json=body, headers=ANN).status_code == 200


def test_what_is_no_image_is_refused_in_use_without_its_path(house: House) -> None:
    asset = create(house)
    content = f'<img src="data:image/png;asset_id,{asset["assetId"]}" />'
    assert "never uploaded" in house.ask(content).json()["detail"]
    upload(house, asset, b"not an image")
    refused = house.ask(content)
    assert refused.status_code == 422
    assert "/tmp" not in refused.text and "neva-assets" not in refused.text


@pytest.mark.parametrize(
    ("said", "code"),
    [
        *(("café", "utf-8"), ("кадр 1", "utf-8"), ("naïve 漢字", "utf-8"), (" frame 1 ", "utf-8")),
        ("café", "latin-1"),
    ],
)
def test_a_description_may_have_any_letters(
    live: Callable[..., Live], said: str, code: str
) -> None:
    """curl and httpx send it as UTF-8, Python's http.client as Latin-1."""
    server, sent = live(EchoEngine()), said.strip().encode(code)
    made = WEB.post(server.url + "/v2/nvcf/assets", json={**NEW, "description": said}).json()
    assert made["description"] == said
    path = made["uploadUrl"].removeprefix(server.url)
    for header, status in ((sent + b"?", 403), (b"", 403), (sent, 200)):
        wire = HTTPConnection("127.0.0.1", server.port)  # it sends bytes as they are
        wire.request("PUT", path, png(), {"content-type": "image/png", DESCRIPTION: header})
        assert wire.getresponse().status == status
        wire.close()


def test_what_can_be_uploaded_can_be_read(house_of: Callable[..., House]) -> None:
    assert Limits().asset_bytes == ImageLimits().bytes
    small = house_of(Settings(limits=Limits(asset_bytes=1000)))
    asset = create(small)
    assert upload(small, asset, png() + bytes(1000 - len(png()))) == 200
    content = f'<img src="data:image/png;asset_id,{asset["assetId"]}" />'
    assert small.ask(content).status_code == 200
    large = house_of(Settings(limits=Limits(asset_bytes=ImageLimits().bytes + 1)))
    asset = create(large)
    assert upload(large, asset, png() + bytes(ImageLimits().bytes + 1 - len(png()))) == 200
    content = f'<img src="data:image/png;asset_id,{asset["assetId"]}" />'
    assert large.ask(content).status_code == 200


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"not an image", "is not a PNG, JPEG, WebP or GIF"),
        (b"", "is empty"),
        (bomb(19_999, 19_999), "has far too many pixels"),
        (png()[:40], "is damaged or incomplete"),
    ],
)
def test_the_true_reason_is_told(house: House, data: bytes, why: str) -> None:
    asset = create(house)
    assert upload(house, asset, data) == 200
    refused = house.ask(f'<img src="data:image/png;asset_id,{asset["assetId"]}" />')
    assert refused.status_code == 422
    assert f"asset {asset['assetId']} {why}" in refused.json()["detail"]


def test_types_sizes_and_quota(house_of: Callable[..., House]) -> None:
    house = house_of(Settings(limits=Limits(asset_bytes=1000, assets=2)))
    bad = {"contentType": "text/html", "description": ""}
    assert house.client.post("/v2/nvcf/assets", json=bad).status_code == 422
    assert house.client.post("/v2/nvcf/assets", json={}).status_code == 422
    asset = create(house)
    assert upload(house, asset, bytes(1001)) == 413
    assert upload(house, asset) == 200, "a failed upload may be tried again"
    create(house)
    assert house.client.post("/v2/nvcf/assets", json=NEW).status_code == 429


def test_time_passes(tmp_path: Path) -> None:
    now = 1_000_000.0
    assets = Assets(Settings(data=tmp_path / "data"), clock=lambda: now)
    asset = assets.create("ann", "image/png", "")
    query = {name: value[0] for name, value in parse_qs(assets.sign(asset)).items()}
    asset.path.write_bytes(png())
    asset.size = 100
    assert assets.find("ann", asset.id) is asset
    now += UPLOAD_SECONDS + 1
    with pytest.raises(ApiError, match="expired"):
        assets.uploadable(asset.id, query["expires"], query["signature"])
    now += ASSET_SECONDS
    with pytest.raises(ApiError, match="not found"):
        assets.find("ann", asset.id)
    assert not asset.path.exists()
    assets.close()
    assert list((tmp_path / "data").iterdir()) == []


def test_an_idle_server_forgets_too(
    house_of: Callable[..., House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for assets; the file is gone all the same."""
    now, hours = time.time(), [0.0]
    later = partial(Assets, clock=lambda: now + hours[0] * 3600)
    monkeypatch.setattr(app, "Assets", later)
    monkeypatch.setattr(app, "EXPIRE_SECONDS", 0.05)
    house = house_of(Settings(data=tmp_path))
    assert upload(house, create(house)) == 200

    def kept() -> list[Path]:
        return [file for file in tmp_path.glob("neva-assets-*/*") if file.name != LOCK]

    assert len(kept()) == 1
    hours[0] = 25
    assert wait_until(lambda: not kept())


def test_what_a_killed_server_left_is_swept(tmp_path: Path) -> None:
    """Not what a live one has, nor what is none of ours, nor what has no lock yet."""
    code = (
        "import sys, time; from pathlib import Path; from neva.server.assets import Assets;"
        "from neva.server.settings import Settings;"
        "a = Assets(Settings(data=Path(sys.argv[1]))).create('ann', 'image/png', '');"
        "a.path.write_bytes(b'secret'); print(a.path.parent, flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    killed, alive = (Popen(command, stdout=PIPE, text=True) for _ in range(2))
    try:
        left, kept = (Path(run.stdout.readline().strip()) for run in (killed, alive))  # type: ignore[union-attr]
        killed.kill()
        killed.wait()
        other, unlocked, old = (
            tmp_path / name for name in ("other", "neva-assets-new", "neva-assets-old")
        )
        for folder in (other, unlocked, old):
            folder.mkdir()
        os.utime(old, (0, 0))
        link, outside = tmp_path / "neva-assets-link", tmp_path / "outside"
        (outside / LOCK).mkdir(parents=True)
        link.symlink_to(outside)
        assert list(left.iterdir()) and list(kept.iterdir())
        first, second = Assets(Settings(data=tmp_path)), Assets(Settings(data=tmp_path))
        try:
            assert not left.exists() and not old.exists()
            assert len(list(kept.iterdir())) == 2, "its lock and its asset"
            assert other.is_dir() and unlocked.is_dir() and link.is_symlink()
            assert outside.is_dir()
            assert first.create("ann", "image/png", "").path.parent.is_dir(), "one process, two"
        finally:
            first.close()
            second.close()
        assert {path.name for path in tmp_path.iterdir()} == {
            *("other", "neva-assets-new", "neva-assets-link", "outside", kept.name)
        }
    finally:
        for run in (killed, alive):
            run.kill()
            run.communicate()


def test_without_locks_folders_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that has none, nobody can tell a live server's folder from a dead one's."""

    def none(*_: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(run_folder.fcntl, "flock", none)
    first = Assets(Settings(data=tmp_path))
    path = first.create("ann", "image/png", "").path
    path.write_bytes(png())
    second = Assets(Settings(data=tmp_path))
    assert path.read_bytes() == png()
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_upload_urls_are_where_the_client_asked(house: House) -> None:
    made = house.client.post("/v2/nvcf/assets", json=NEW, headers={"host": "neva.example:81"})
    assert urlsplit(made.json()["uploadUrl"]).netloc == "neva.example:81"
