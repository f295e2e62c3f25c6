"""Where pictures are fetched by URL: in threads of their own, so that a slow host delays no reader.

The reading threads serve every request; a host that answers after eight seconds must not hold one.
So reading stops at URLs that are yet to be fetched, and begins again when they are.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from neva.server.errors import ApiError


class Unfetched(Exception):
    """Pictures must be fetched first: call `fetch` where one may wait, then read again."""

    def __init__(self, fetch: Callable[[], None]) -> None:
        super().__init__("pictures are yet to be fetched")
        self.fetch = fetch


class Fetching:
    """Fetches for `most` requests at once. Used from the event loop only."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._busy = 0
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="neva-fetcher")

    async def do(self, fetch: Callable[[], None]) -> None:
        """Fetch one request's pictures; ApiError 429 at once where all threads are at work."""
        if self._busy >= self._most:
            raise ApiError(
                429,
                f"the server fetches pictures for {self._busy} requests already; try again in a "
                "moment, or send them as data:image/...;base64,...",
                headers={"Retry-After": "1"},
            )
        self._busy += 1
        under_way = asyncio.get_running_loop().run_in_executor(self._threads, fetch)
        under_way.add_done_callback(self._done)
        await asyncio.shield(under_way)  # whoever leaves, the thread is busy until it is done

    def _done(self, under_way: "asyncio.Future[None]") -> None:
        self._busy -= 1
        if not under_way.cancelled():
            under_way.exception()  # seen, so that asyncio does not complain where nobody waits

    def close(self) -> None:
        """End the threads, when they are done."""
        self._threads.shutdown(wait=False, cancel_futures=True)
