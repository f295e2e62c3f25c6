"""The porter: the outermost layer, met by every request before anything of its body is read.

It gives the request its id, checks the Host and Origin headers and the API key, bounds the body,
sends large answers in pieces, writes one log line, and turns a fault of ours into a 500 that tells
nothing. Logs never hold bodies or keys.
"""

import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neva.server.auth import LOCAL, Key, KeyRing
from neva.server.errors import ApiError, respond
from neva.server.limits import bounded, declared_length, too_large
from neva.server.origin import check_origin
from neva.server.pieces import in_pieces
from neva.server.quota import Quota
from neva.server.settings import Settings
from neva.server.tracing import UNDER_WAY, Tracing

log = logging.getLogger("neva.server")

OPEN = ("/", "/docs", "/openapi.json", "/favicon.ico", "/health", "/ping")
"""Paths that need no key: the pages themselves, and what a load balancer asks."""
OPEN_BELOW = ("/v1/health/", "/web/", "/v2/nvcf/uploads/")
"""Prefixes that need no key; an upload's URL carries a signature of its own."""

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

CLIENT_GONE = 499
"""nginx's status of a request whose client left before there was an answer."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_WORD = re.compile(r"(?:[a-z][a-z_-]{0,23}[0-9]?)?")
_PORT = re.compile(r":\d+$")


def request_id_of(scope: Scope) -> str:
    """The client's own x-request-id if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(text := value.decode("latin-1")):
            return str(text)
    return str(uuid.uuid4())


def harmless(path: str) -> str:
    """A path that no route knows, for the log: words stay, what could be a key or data does not."""
    words = path[:200].split("/")
    return "/".join(word if _WORD.fullmatch(word) else "*" for word in words[:8])


class Porter:
    """ASGI middleware; `scope["state"]` gets `request_id` and `owner`.

    `answered` hears the route and the status of every response.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        tracing: Tracing,
        answered: Callable[[str, int], None],
    ) -> None:
        self._app = app
        self._tracing, self._answered = tracing, answered
        self._settings = settings
        self._ring = KeyRing(settings.keys, settings.key_file)
        self._quota = Quota()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0
        request_id = request_id_of(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        extra = [*HEADERS, (b"x-request-id", request_id.encode())]
        send = in_pieces(send)

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        request = Request(scope)
        trace = self._tracing.begin(request_id, scope["path"], request.headers)
        UNDER_WAY.set(trace)  # this task's, and its children's: each request has a task of its own
        try:
            try:
                key = self._key(request)
                state["owner"] = key.name if key else LOCAL
                with self._quota.request(key, request.url.path) as state["place"]:
                    await self._app(scope, self._receive(request, receive), tagged)
            except ApiError as error:
                refusal = respond(
                    request, error.status_code, str(error.detail), error.param, error.headers
                )
                await refusal(scope, receive, tagged)
        except Exception as error:  # a fault of ours: tell the log, not the client
            log.error("fault", extra={"request_id": request_id, "fault": _where(error)})
            if not status:
                fault = respond(request, 500, "the server failed; the fault is in its log")
                await fault(scope, receive, tagged)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._answered(route, status or CLIENT_GONE)
            trace.end(scope["method"], route, status or CLIENT_GONE)
            seen = {
                "request_id": request_id,
                **({"trace_id": trace.trace_id} if trace.trace_id else {}),
                "owner": state.get("owner"),
                "method": scope["method"][:16],
                "path": route if "route" in scope else harmless(scope["path"]),
                "status": status or CLIENT_GONE,
                "seconds": round(time.monotonic() - started, 4),
                **state.get("told", {}),
            }
            log.info("request", extra=seen)

    def _key(self, request: Request) -> Key | None:
        """Whose request it is, None if anyone's.

        ApiError 401 without a key, 421 for a Host, 403 for another origin's page.
        """
        hosts = self._settings.hosts
        name = _PORT.sub("", request.headers.get("host", "").lower())
        if hosts and name not in hosts:
            raise ApiError(421, f"this server answers to {', '.join(hosts)} only")
        check_origin(request.method, request.headers, self._settings.cors)
        path = request.url.path
        if not self._settings.closed or path in OPEN or path.startswith(OPEN_BELOW):
            return None
        scheme, _, said = request.headers.get("authorization", "").partition(" ")
        key = self._ring.keys.find(said.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise ApiError(
                401,
                "a valid API key is needed: send it as `Authorization: Bearer KEY`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return key

    def _receive(self, request: Request, receive: Receive) -> Receive:
        """The body, bounded in bytes and in time."""
        limits = self._settings.limits
        upload = request.url.path.startswith("/v2/nvcf/uploads/")
        limit = limits.asset_bytes if upload else limits.body_bytes
        length = declared_length(request.scope)
        if length is not None and length > limit:
            raise too_large(limit)
        return bounded(receive, limit, limits.body_seconds)


def _where(error: BaseException) -> str:
    """The kind of a fault and its place, without its message: that may quote a request."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} in {places}"
