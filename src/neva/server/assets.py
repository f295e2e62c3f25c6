"""NVCF's assets: images uploaded once and named by id in later requests.

`POST /v2/nvcf/assets` gives a signed URL, good for one upload within an hour; an asset belongs to
the key that made it and is deleted after 24 hours, or with the server; what a killed server left is
deleted when the next one starts.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from neva.server.errors import ApiError
from neva.server.run_folder import RunFolder
from neva.server.schemas import Text
from neva.server.settings import Settings
from neva.server.shapes import AssetList, AssetShown, NewAssetObject, shaped

UPLOAD_SECONDS = 3600
ASSET_SECONDS = 24 * 3600
DESCRIPTION = "x-amz-meta-nvcf-asset-description"
ContentType = Literal["image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"]


class NewAsset(BaseModel):
    """`POST /v2/nvcf/assets`."""

    content_type: Annotated[ContentType, Field(alias="contentType")]
    description: Annotated[Text, Field(max_length=1000)]


@dataclass
class Asset:
    """One asset; `size` is None until it is uploaded."""

    id: str
    owner: str
    content_type: str
    description: str
    expires: float
    path: Path
    size: int | None = None
    uploading: bool = False

    def as_dict(self) -> dict[str, str]:
        """As NVCF shows it."""
        return {
            "assetId": self.id,
            "contentType": self.content_type,
            "description": self.description,
        }


class Assets:
    """The assets of one server, in a folder of their own. `clock` gives seconds since the epoch."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._folder = RunFolder("neva-assets-", settings.data)
        self._limits = settings.limits
        self._secret = secrets.token_bytes(32)
        self._clock = clock
        self._assets: dict[str, Asset] = {}

    def close(self) -> None:
        """Delete everything."""
        self._folder.close()

    def expire(self) -> int:
        """Delete what is too old; how many assets that was."""
        now = self._clock()
        old = [asset for asset in list(self._assets.values()) if asset.expires < now]
        for asset in old:
            self._remove(asset)
        return len(old)

    def _remove(self, asset: Asset) -> None:
        self._assets.pop(asset.id, None)  # reading threads may expire it too
        asset.path.unlink(missing_ok=True)

    def of(self, owner: str) -> list[Asset]:
        """The owner's assets that have not expired."""
        self.expire()
        return [asset for asset in list(self._assets.values()) if asset.owner == owner]

    def create(self, owner: str, content_type: str, description: str) -> Asset:
        """Announce an asset; ApiError 429 beyond the quota."""
        if len(self.of(owner)) >= self._limits.assets:
            raise ApiError(
                429, f"this key keeps {self._limits.assets} assets already; delete some first"
            )
        name = str(uuid.uuid4())
        path = self._folder.path / name
        expires = self._clock() + ASSET_SECONDS
        asset = Asset(name, owner, content_type, description, expires, path)
        self._assets[name] = asset
        return asset

    def find(self, owner: str, name: str) -> Asset:
        """The owner's asset; ApiError 404 if there is none, also if it is another's."""
        self.expire()
        asset = self._assets.get(name.lower())
        if asset is None or asset.owner != owner:
            raise _missing(name)
        return asset

    def data(self, owner: str, name: str) -> bytes:
        """The bytes of an uploaded asset. May be called from a reading thread."""
        asset = self.find(owner, name)
        if asset.size is None:
            raise ApiError(422, f"asset {asset.id} was never uploaded; PUT it to its uploadUrl")
        try:
            return asset.path.read_bytes()
        except FileNotFoundError:  # it was deleted, or expired, this moment
            raise _missing(name) from None

    def delete(self, owner: str, name: str) -> None:
        """Forget an asset."""
        self._remove(self.find(owner, name))

    def sign(self, asset: Asset) -> str:
        """The query of the asset's upload URL."""
        expires = int(self._clock()) + UPLOAD_SECONDS
        return f"expires={expires}&signature={self._signature(asset.id, str(expires))}"

    def _signature(self, name: str, expires: str) -> str:
        said = f"{name}\n{expires}".encode()
        return hmac.new(self._secret, said, hashlib.sha256).hexdigest()

    def uploadable(self, name: str, expires: str, signature: str) -> Asset:
        """The asset an upload URL is for; ApiError 403 unless it is ours, fresh and unused."""
        wanted = self._signature(name, expires)
        if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
            raise ApiError(403, "the upload URL's signature is wrong")
        asset = self._assets.get(name)
        if asset is None or int(expires) < self._clock():
            raise ApiError(403, "the upload URL has expired; make a new asset")
        if asset.uploading or asset.size is not None:
            raise ApiError(403, "the upload URL has been used; make a new asset")
        return asset


def _missing(name: str) -> ApiError:
    return ApiError(404, f"asset {name[:40]!r}: not found for this key; it may have expired")


def _describes(header: str | None, description: str) -> bool:
    """Whether a header, if there is one, is the description; in constant time.

    Clients send it as UTF-8 (curl, httpx) or as Latin-1 (Python's http.client); Starlette reads
    all as Latin-1, so that its bytes come back. What is white at its ends cannot be sent.
    """
    if header is None:
        return True
    sent, said = header.encode("latin-1"), description.strip()
    as_utf8 = hmac.compare_digest(sent, said.encode())
    return hmac.compare_digest(sent, said.encode("latin-1", "xmlcharrefreplace")) or as_utf8


async def _store(asset: Asset, http: Request) -> None:
    """Write the body to the asset's file; on any failure the upload may be tried again."""
    asset.uploading, size = True, 0
    try:
        with asset.path.open("wb") as file:
            async for piece in http.stream():
                await asyncio.to_thread(file.write, piece)
                size += len(piece)
        asset.size = size
    except BaseException:
        asset.path.unlink(missing_ok=True)
        raise
    finally:
        asset.uploading = False


def asset_routes(assets: Assets) -> APIRouter:
    """NVCF's five calls."""
    router = APIRouter(tags=["Assets"])

    @router.post(
        "/v2/nvcf/assets",
        summary="Announce an asset; gives its upload URL",
        **shaped(NewAssetObject),
    )
    async def create(body: NewAsset, http: Request) -> dict[str, str]:
        asset = assets.create(http.state.owner, body.content_type, body.description)
        url = f"{http.base_url}v2/nvcf/uploads/{asset.id}?{assets.sign(asset)}"
        return {**asset.as_dict(), "uploadUrl": url}

    @router.put(
        "/v2/nvcf/uploads/{name}",
        summary="Upload an asset, once, without a key",
        response_class=Response,
    )
    async def upload(name: str, http: Request, expires: str = "", signature: str = "") -> Response:
        asset = assets.uploadable(name, expires, signature)
        if http.headers.get("content-type") != asset.content_type:
            raise ApiError(403, f"Content-Type must be {asset.content_type}, as announced")
        if not _describes(http.headers.get(DESCRIPTION), asset.description):
            raise ApiError(403, f"{DESCRIPTION} must be as announced")
        await _store(asset, http)
        return Response(status_code=200)

    @router.get("/v2/nvcf/assets", summary="Your assets", **shaped(AssetList))
    async def listed(http: Request) -> dict[str, Any]:
        return {"assets": [asset.as_dict() for asset in assets.of(http.state.owner)]}

    @router.get("/v2/nvcf/assets/{name}", summary="One of your assets", **shaped(AssetShown))
    async def shown(name: str, http: Request) -> dict[str, Any]:
        return {"asset": assets.find(http.state.owner, name).as_dict()}

    @router.delete("/v2/nvcf/assets/{name}", status_code=204, summary="Delete an asset")
    async def deleted(name: str, http: Request) -> Response:
        assets.delete(http.state.owner, name)
        return Response(status_code=204)

    return router
