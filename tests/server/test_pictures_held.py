"""Decoded pictures are large, and answers are long: they are not kept for each other."""

import gc
import io
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from echo_engine import EchoEngine, wait_until
from PIL import Image
from server_house import CHAT, NVIDIA, WEB, Live, data_uri

from neva.engine.protocol import Chunk, Request, Stream, Usage
from neva.engine.stream import ChunkStream


class Quiet(EchoEngine):
    """It keeps nothing of a request, as the openvino engine; its answers end when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[ChunkStream] = []
        self.pictures: list[weakref.ref[np.ndarray]] = []

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        self.pictures += [weakref.ref(image.array) for image in requests[0].images]
        stream = ChunkStream(lambda: None)
        stream.push(Chunk("word "))
        self.made.append(stream)
        return [stream]


def large() -> str:
    """A picture too large for the cache of decoded ones: 19 MB of pixels."""
    sink = io.BytesIO()
    Image.new("L", (2500, 2500), 7).save(sink, "PNG")
    return data_uri(sink.getvalue())


@pytest.mark.parametrize("path", [CHAT, NVIDIA, "/v1/responses"])
def test_a_picture_is_gone_while_its_answer_streams(live: Callable[..., Live], path: str) -> None:
    engine = Quiet()
    server = live(engine)
    kind = "input_image" if path == "/v1/responses" else "image_url"
    said = [{"role": "user", "content": [{"type": kind, "image_url": large()}]}]
    body = {"stream": True, "input" if path == "/v1/responses" else "messages": said}
    with WEB.stream("POST", server.url + path, json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        assert len(engine.pictures) == 1
        gone = wait_until(lambda: gc.collect() >= 0 and engine.pictures[0]() is None, 5)
        engine.made[0].push(Chunk("", "stop", Usage(1, 1)))
        assert list(lines)
    assert gone, "the answer held its decoded picture"
