"""A model's process ends with its Triton.

A Triton that is killed, or that stops while an answer needs longer than --exit-timeout-secs, leaves
its stubs behind: they notice, but then wait for the threads of Python in them.
"""

import os
import time
from threading import Thread


def end_with_parent(seconds: float = 1.0) -> None:
    """From now on look so often whether this process's parent lives, and end at once if not.

    Nothing is closed: an engine's own process ends with the socket to this one.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    Thread(target=watch, name="neva-parent", daemon=True).start()
