"""What load balancers, fleets and people ask about the server itself, under NIM's paths."""

from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

import neva
from neva.server.desk import Desk
from neva.server.shapes import Health, License, Metadata, Version, shaped
from neva.server.version import release

API_VERSION = "1.0.0"
LICENSE = "Apache-2.0"


@cache
def _license() -> dict[str, Any]:
    """Name and text of the server's licence; the model's own is in its card."""
    installed = metadata.files("neva-vlm") or [] if release() != "0+unknown" else []
    found = [Path(str(file.locate())) for file in installed if file.name == "LICENSE"]
    found.append(Path(neva.__file__).parents[2] / "LICENSE")  # run from a checkout
    texts = [file.read_text(encoding="utf-8") for file in found if file.is_file()]
    return {"name": LICENSE, "path": "LICENSE", "type": "text", "content": (texts or [LICENSE])[0]}


def health_routes(desk: Desk) -> APIRouter:
    """Health, version, metadata, licence and metrics."""
    router = APIRouter(tags=["Server"])

    @router.get(
        "/v1/health/live",
        summary="The process lives; the model may still be loading",
        **shaped(Health),
    )
    @router.get("/ping", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"object": "health.response", "message": "Service is live."}

    @router.get(
        "/v1/health/ready",
        summary="200 when a request can be answered, else 503",
        responses={
            200: {"model": Health, "description": "It can"},
            503: {"model": Health, "description": "Not yet, or no more"},
        },
    )
    @router.get("/health", include_in_schema=False)
    async def ready() -> Response:
        if await desk.able():
            return JSONResponse({"object": "health.response", "message": "Service is ready."})
        why = (desk.failure and "Service could not load the model.") or "Service is not ready."
        return JSONResponse({"object": "health.response", "message": why}, 503)

    @router.get("/v1/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(desk.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    _about(router, desk)
    return router


def _about(router: APIRouter, desk: Desk) -> None:
    """Version, licence and metadata."""

    @router.get("/v1/version", summary="The release and the API's version", **shaped(Version))
    @router.get("/version", include_in_schema=False)
    async def version() -> dict[str, str]:
        return {"release": release(), "api": API_VERSION, "version": release()}

    @router.get("/v1/license", summary="The server's licence", **shaped(License))
    async def license_() -> dict[str, Any]:
        return _license()

    @router.get(
        "/v1/metadata",
        summary="What is served, by which engine, how exactly",
        **shaped(Metadata),
    )
    async def about(request: Request) -> dict[str, Any]:
        info = desk.info
        return {
            "version": release(),
            "modelInfo": [{"modelUrl": info.name, "shortName": info.name}],
            "assetInfo": [info.name],
            "licenseInfo": {"name": LICENSE, "url": str(request.url_for("license_"))},
            "profile": {
                "engine": info.engine,
                "precision": info.precision,
                "device": info.device,
                "context": info.context or None,
                "image_tokens": info.image_tokens or None,
                "reproducible": info.reproducible,
            },
        }
