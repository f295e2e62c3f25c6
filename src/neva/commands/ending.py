"""What a verb that writes does when it is told to end: clean up as after an error."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def cleaned_up() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise SystemExit, so that nothing half done is left.

    By themselves they end a process without a word to it. What is ignored stays so (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    taken = [one for one, handler in before.items() if handler is signal.SIG_DFL]
    for one in taken:
        signal.signal(one, _leave)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, before[one])


def _leave(number: int, frame: Any) -> NoReturn:
    """End with the code that shells give for the signal; a second one must not stop the cleanup."""
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise SystemExit(128 + number)
