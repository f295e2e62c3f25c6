"""What the engine's process says of a request that failed: our own words, never a library's."""

import os
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from neva.engine.messages import Add, RequestError
from neva.engine.protocol import Sampling
from neva.engine.worker import Worker

LEAK = "Exception from /home/ann/src/core/node.cpp:92: bad access at 0x7fffe0"


class Refusing:
    """An embedder and a model of which one fails; eyes that see nothing."""

    asked = known = nbytes = 0
    cache_share = 0.0

    def __init__(self, error: Exception, in_model: bool) -> None:
        self.error, self.in_model = error, in_model
        self.descriptor, _ = os.pipe()

    def find(self, _: Add) -> dict[str, Any]:
        return {}

    def embed(self, *_: Any) -> Any:
        if not self.in_model:
            raise self.error
        return np.zeros((1, 1, 2), np.float32)

    def add(self, *_: Any) -> None:
        raise self.error


class Mute:
    """Nothing to compile."""

    asked = None

    def __init__(self) -> None:
        self.descriptor, _ = os.pipe()


@pytest.mark.parametrize("in_model", [False, True])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError(LEAK), "RuntimeError"),
        (ValueError(LEAK), "ValueError"),
        (RequestError("the numbers are not finite"), "the numbers are not finite"),
    ],
)
def test_a_librarys_words_stay_inside(error: Exception, says: str, in_model: bool) -> None:
    ours, theirs = Pipe()
    part = Refusing(error, in_model)
    worker = Worker(theirs, part, part, part, Mute(), 10.0)
    ours.send(Add(7, np.array([1]), (), Sampling(), frozenset()))
    worker._listen(None)
    (news,) = ours.recv().news
    assert news.key == 7 and news.sentence == f"the engine refused the request: {says}"
