"""The vision tower in a thread of its own, so that text flows while images are encoded.

OpenVINO releases Python's lock while it computes; a step of the language model does not, so this
thread asks for the lock twice per image and no more.
"""

import os
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import Core

from neva.engine.graphs import Export
from neva.engine.mapped import let_go
from neva.engine.messages import Setup

Seen = tuple[str, NDArray[Any] | Exception]


class Eyes:
    """`look` at squares, then `seen` tells. `descriptor` can be read when there is something."""

    def __init__(self, made: Export, setup: Setup) -> None:
        self._made, self._recipe = made, setup.pixels
        self._properties: dict[str, Any] = dict(setup.vision)
        if setup.threads:
            self._properties["INFERENCE_NUM_THREADS"] = setup.threads
        self._waiting: SimpleQueue[tuple[str, NDArray[np.uint8]]] = SimpleQueue()
        self._done: SimpleQueue[Seen] = SimpleQueue()
        self._wanted: set[str] = set()
        self.descriptor, self._bell = os.pipe()
        self.encoded = 0  # images that went through the tower
        Thread(target=self._run, name="neva-eyes", daemon=True).start()

    def looks_for(self, name: str) -> bool:
        """It is being encoded, or its pixels are on their way."""
        return name in self._wanted

    def expect(self, name: str) -> None:
        """Its pixels will come."""
        self._wanted.add(name)

    def look(self, name: str, square: NDArray[np.uint8]) -> None:
        """Encode uint8 (H, W, 3)."""
        self._waiting.put((name, square))

    def forget(self, name: str) -> None:
        """Nobody wants it any more; it is left out unless it has begun."""
        self._wanted.discard(name)

    def seen(self) -> list[Seen]:
        """What was encoded since: (P, D) float32 by name, or what went wrong."""
        os.read(self.descriptor, 4096)
        found = []
        while not self._done.empty():
            name, features = self._done.get()
            self._wanted.discard(name)
            found.append((name, features))
        return found

    def _run(self) -> None:
        """The tower is loaded at once, beside the language model."""
        tower: Any = None
        try:
            tower = Core().compile_model(self._made.vision, "CPU", self._properties)
        except Exception as error:
            failure = error
        while True:
            name, square = self._waiting.get()
            if name not in self._wanted:
                continue
            try:
                if tower is None:
                    raise failure
                features = np.array(tower(self._recipe.normalise(square)[None])[0][0], np.float32)
                if not self.encoded:  # the kernels have their own copy of the weights now
                    let_go(self._made.vision.with_suffix(".bin"))
                self.encoded += 1
                self._done.put((name, features))
            except Exception as error:
                self._done.put((name, error))
            os.write(self._bell, b".")
