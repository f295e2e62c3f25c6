"""NVCF's assets: announced, uploaded once by a signed URL, used by id, gone after a day."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from server_house import CHAT, NVIDIA, House, png

from neva.server.assets import ASSET_SECONDS, DESCRIPTION, UPLOAD_SECONDS, Assets
from neva.server.auth import Keys
from neva.server.errors import ApiError
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


def test_upload_urls_are_where_the_client_asked(house: House) -> None:
    made = house.client.post("/v2/nvcf/assets", json=NEW, headers={"host": "neva.example:81"})
    assert urlsplit(made.json()["uploadUrl"]).netloc == "neva.example:81"
