"""One error body for two families of clients: NVIDIA's problem details and OpenAI's `error`.

Each part is read by some client in the field: openai-python and -node print `error.message`,
LangChain prints `title`, `status` and `detail` and looks for `requestId` in it. Nothing of the
host, the decoder or a traceback is ever in it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from neva.errors import EngineError, NevaError

log = logging.getLogger("neva.server")

PLAIN = {
    400: ("bad-request", "invalid_request_error"),
    401: ("unauthorized", "authentication_error"),
    403: ("forbidden", "permission_error"),
    404: ("not-found", "not_found_error"),
    422: ("unprocessable-entity", "invalid_request_error"),
    429: ("too-many-requests", "rate_limit_error"),
    507: ("insufficient-storage", "server_error"),
    500: ("internal-server-error", "server_error"),
}
"""Status -> (end of the problem's URN, OpenAI's error type)."""


VARIANTS = ("str", "list", "text", "image_url", "input_text", "input_image", "ImageUrl", "file")
"""Ends of pydantic's places that name a variant of a field, not a field."""


class ApiError(HTTPException):
    """An answer that is not 2xx: `status`, a sentence, and the parameter that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers) if headers else None)
        self.param = param


def body(
    status: int, message: str, param: str | None, path: str, request_id: str
) -> dict[str, Any]:
    """The hybrid error body, as run against every client of the fact sheet."""
    title = HTTPStatus(status).phrase
    slug, kind = PLAIN.get(
        status,
        (title.lower().replace(" ", "-"), "server_error" if status >= 500 else PLAIN[400][1]),
    )
    return {
        "error": {"message": message, "type": kind, "param": param, "code": status},
        "type": f"urn:inference-service:problem-details:{slug}",
        "title": title,
        "status": status,
        "detail": message,
        "instance": path,
        "requestId": request_id,
    }


def respond(
    request: Request,
    status: int,
    message: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The error as a response to `request`."""
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    content = body(status, message, param, request.url.path, request_id)
    return JSONResponse(content, status, headers=headers)


def nearest(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first finding or, where its field may have several forms, that of the form which fits
    best: it goes deepest. `{"stop": [""]}` is a list with an empty text, not "no text"."""
    field = found[0].get("loc", ())[:2]
    return max((one for one in found if one["loc"][:2] == field), key=lambda one: len(one["loc"]))


def explained(error: RequestValidationError) -> tuple[int, str, str | None]:
    """(status, sentence, parameter) of pydantic's first finding; never repeats the input."""
    first = nearest(error.errors())
    place = [str(part) for part in first.get("loc", ()) if part not in ("body", "query", "path")]
    if first.get("type") == "json_invalid":
        return 400, "the request body is not valid JSON", None
    if not place and first.get("type") == "value_error":  # of fields that do not go together
        return 422, str(first.get("msg", "")).removeprefix("Value error, "), None
    if not place:
        return 422, "the request body must be a JSON object sent as application/json", None
    names = [part for part in place if part.isidentifier() or part.isdigit()]
    while len(names) > 1 and names[-1] in VARIANTS:
        names.pop()
    message = str(first.get("msg", "is not valid")).removeprefix("Value error, ")
    param = ".".join(names)
    return 422, f"{param}: {message}" if param else message, param or None


def add_error_handlers(app: FastAPI) -> None:
    """Give every error of `app` the hybrid body."""

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        param = error.param if isinstance(error, ApiError) else None
        return respond(request, error.status_code, str(error.detail), param, error.headers)

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, NevaError)
        wait = (
            {"Retry-After": str(math.ceil(error.wait))} if isinstance(error, EngineError) else None
        )
        return respond(request, error.status, str(error), error.param, wait)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(request, *explained(error))

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(NevaError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
