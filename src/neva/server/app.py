"""The whole server as one ASGI app: `create_app(engine, settings)`.

`engine` is an engine, or a function that opens one: then the app answers at once (live, but not
ready) and loads the engine beside. Any order of routers works; the porter goes around all of them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware

from neva.engine.protocol import Engine
from neva.server.assets import Assets, asset_routes
from neva.server.content import Door
from neva.server.database import open_database
from neva.server.desk import Desk
from neva.server.document import DocumentedAPI
from neva.server.errors import add_error_handlers
from neva.server.file_store import FileStore
from neva.server.files import file_routes
from neva.server.health import health_routes
from neva.server.nvidia import nvidia_routes
from neva.server.openai import openai_routes
from neva.server.pages import page_routes
from neva.server.polls import Polls, poll_routes
from neva.server.porter import Porter
from neva.server.responses import responses_routes
from neva.server.settings import Settings
from neva.server.shapes import ERRORS
from neva.server.store import Store, StoreError
from neva.server.tracing import Tracing
from neva.server.version import release

log = logging.getLogger("neva.server")
EXPIRE_SECONDS = 600.0

ABOUT = """Ask a vision-language model about images, by NVIDIA's API for `neva-22b` or by OpenAI's.

Images come as data URIs, as `<img src="data:...">` tags in the text, or as uploaded assets."""


@dataclass(frozen=True)
class _Parts:
    """What the routes share, and what must be closed."""

    desk: Desk
    door: Door
    assets: Assets
    polls: Polls
    store: Store
    files: FileStore
    tracing: Tracing

    @classmethod
    def make(cls, engine: Engine | Callable[[], Engine], settings: Settings) -> "_Parts":
        assets = Assets(settings)
        file = settings.data / "responses.sqlite" if settings.data else None
        database = open_database(settings.store or file)
        store = Store(database, settings.keep_days)
        files = FileStore(database, settings.limits, settings.keep_days)
        return cls(
            Desk(engine, settings),
            Door(settings, assets, files),
            assets,
            Polls(),
            store,
            files,
            Tracing(settings.otlp),
        )

    async def expire(self) -> None:
        """Now and then forget what was stored too long ago, also where nobody stores anything."""
        while True:
            try:
                gone = await self.desk.read(self.assets.expire)
                gone += await self.desk.read(lambda: self.store.expire() + self.files.expire())
                if gone:
                    log.info("expired", extra={"forgotten": gone})
            except (StoreError, OSError) as error:
                log.error("nothing could be expired: %s", error)
            await asyncio.sleep(EXPIRE_SECONDS)

    async def close(self) -> None:
        await self.polls.close()
        await self.desk.close()
        self.assets.close()
        self.store.close()
        await asyncio.to_thread(self.tracing.close)


def create_app(
    engine: Engine | Callable[[], Engine],
    settings: Settings | None = None,
    opened: Callable[[Exception | None], None] | None = None,
) -> FastAPI:
    """The app around `engine`; `opened` hears when the engine is open, or why it could not be.

    An engine that was given open stays open when the app ends; one opened here is closed here.
    """
    settings = settings or Settings()
    parts = _Parts.make(engine, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(parts.desk, opened))
        expiring = asyncio.create_task(parts.expire())
        if not callable(engine):
            await loading
        try:
            yield
        finally:
            expiring.cancel()
            loading.cancel()  # whoever ends a server need not see its model loaded first
            await asyncio.gather(loading, return_exceptions=True)
            await parts.close()

    app = DocumentedAPI(
        title="NeVA",
        version=release(),
        description=ABOUT,
        lifespan=life,
        docs_url=None,
        responses=ERRORS,
        redoc_url=None,
    )
    app.state.desk = parts.desk
    app.state.send_seconds = settings.limits.send_seconds  # the protocol's, below all of it
    add_error_handlers(app)
    _add_routes(app, parts)
    app.add_middleware(
        Porter,
        settings=settings,
        tracing=parts.tracing,
        answered=parts.desk.answered,
    )
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "nvcf-reqid"],
        )
    return app


async def _load(desk: Desk, opened: Callable[[Exception | None], None] | None) -> None:
    """Open the engine; a failure is logged by its kind only and told to `opened`."""
    failure: Exception | None = None
    try:
        await desk.open()
    except Exception as error:
        failure = error
        log.error("the engine could not be opened: %s", type(error).__name__)
    if opened is not None:
        opened(failure)


def _add_routes(app: FastAPI, parts: _Parts) -> None:
    bearer = HTTPBearer(auto_error=False, description="An API key of this server, if it has keys")
    for router in (
        nvidia_routes(parts.desk, parts.door, parts.polls),
        poll_routes(parts.polls),
        openai_routes(parts.desk, parts.door),
        responses_routes(parts.desk, parts.door, parts.store),
        file_routes(parts.desk, parts.files),
        asset_routes(parts.assets),
        health_routes(parts.desk),
    ):
        app.include_router(router, dependencies=[Depends(bearer)])
    app.include_router(page_routes())
