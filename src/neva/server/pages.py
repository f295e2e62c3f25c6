"""The pages for people: the chat at `/` and the API's reference at `/docs`, all from this package.

Nothing is loaded from another host, and the pages' policy forbids it.
"""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from neva.server.errors import ApiError

WEB = Path(__file__).parent / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


def page(name: str) -> Response:
    """One file of `web/`; ApiError 404 for a name that is not there."""
    path = WEB / name
    if path.parent != WEB or path.suffix not in TYPES or not path.is_file():
        raise ApiError(404, "there is no such page")
    return FileResponse(path, media_type=TYPES[path.suffix], headers=POLICY)


def page_routes() -> APIRouter:
    """The pages and their parts."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def chat() -> Response:
        return page("chat.html")

    @router.get("/docs")
    async def docs() -> Response:
        return page("docs.html")

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return page("icon.svg")

    @router.get("/web/{name}")
    async def part(name: str) -> Response:
        return page(name)

    return router
