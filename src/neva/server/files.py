"""OpenAI's files API for pictures: `POST /v1/files` and what belongs to it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from starlette.responses import Response

from neva.server.desk import Desk
from neva.server.errors import ApiError
from neva.server.file_store import FileStore, StoredFile
from neva.server.shapes import Deleted, FileList, FileObject, shaped

Purpose = Literal["vision", "user_data"]
Seconds = Annotated[int | None, Form(ge=3600, le=2592000, alias="expires_after[seconds]")]
Anchor = Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")]
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The picture's bytes",
    }
}


def file_routes(desk: Desk, files: FileStore) -> APIRouter:
    """Upload, list, show, give back and delete."""
    router = APIRouter(tags=["Files"])

    @router.post("/v1/files", summary="Upload a picture", response_model=FileObject)
    async def upload(
        http: Request,
        file: Annotated[UploadFile, File()],
        purpose: Annotated[Purpose, Form()],
        seconds: Seconds = None,
        anchor: Anchor = None,
    ) -> dict[str, Any]:
        owner, name = http.state.owner, _harmless(file.filename)
        data = await file.read()
        stored = await desk.read(lambda: files.add(owner, name, purpose, data, seconds))
        return stored.as_dict()

    @router.get("/v1/files", summary="Your files", response_model=FileList)
    def listed(
        http: Request,
        purpose: Purpose | None = None,
        limit: Annotated[int, Query(ge=1, le=10000)] = 10000,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> dict[str, Any]:
        every = files.of(http.state.owner, purpose)
        return _page(every if order == "desc" else every[::-1], limit, after)

    @router.get("/v1/files/{name}", summary="One of your files", response_model=FileObject)
    def shown(name: str, http: Request) -> dict[str, Any]:
        return files.find(http.state.owner, name).as_dict()

    @router.get(
        "/v1/files/{name}/content",
        summary="The bytes of one of your files",
        response_class=Response,
        responses=CONTENT,
    )
    def content(name: str, http: Request) -> Response:
        headers = {"Content-Disposition": "attachment"}  # no page of ours, whatever its bytes say
        data = files.data(http.state.owner, name)
        return Response(data, media_type="application/octet-stream", headers=headers)

    @router.delete("/v1/files/{name}", summary="Delete a file", **shaped(Deleted))
    def deleted(name: str, http: Request) -> dict[str, Any]:
        files.delete(http.state.owner, name)
        return {"id": name, "object": "file", "deleted": True}

    return router


def _harmless(name: str | None) -> str:
    """A file's name as it is shown again: no folders, nothing unprintable, not long."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:255] or "file"


def _page(files: list[StoredFile], limit: int, after: str | None) -> dict[str, Any]:
    """The files behind `after`; ApiError 404 if that is none of them."""
    if after is not None:
        names = [file.id for file in files]
        if after not in names:
            raise ApiError(404, f"file {after[:80]!r} is not there for this key", "after")
        files = files[names.index(after) + 1 :]
    data = [file.as_dict() for file in files[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"object": "list", "data": data, "has_more": len(files) > limit, **ends}
