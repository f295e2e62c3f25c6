"""What a real Triton made of faults: clients that leave, large pictures, its own end.

`pytest -m servers tests/deploy`.
"""

import base64
import io
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from environments import run
from PIL import Image
from server_house import data_uri
from tiny_llava import write_checkpoint
from triton_server import (
    ASKED_FOR,
    UNARY,
    figures,
    left_of,
    running,
    stubs,
    triton_environment,
    workers,
)

from neva.model import Checkpoint

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]
ASKED = {"text_input": "What is it?", "sampling_param_max_tokens": 4}
LONG = {"text_input": "a", "sampling_param_max_tokens": ASKED_FOR, "sampling_param_temperature": 0}
NO_IMAGE = "data:image/png;base64," + base64.b64encode(b"no").decode()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("tritons"), context=8192))


@pytest.fixture(scope="module")
def environment() -> Path:
    return triton_environment()


@pytest.fixture(scope="module")
def triton(
    source: Checkpoint, environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A running Triton."""
    with running(source, environment, tmp_path_factory.mktemp("triton")) as found:
        yield found


def made_since(triton: dict[str, Any], before: float) -> float:
    """Tokens of the answer that ends now or soon."""
    deadline = time.monotonic() + 60
    while (made := figures(triton)["generation_tokens"] - before) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return made


@pytest.mark.parametrize("leaving", ["cancel", "leave"])
def test_who_leaves_the_whole_answer(
    triton: dict[str, Any], environment: Path, tmp_path: Path, leaving: str
) -> None:
    (tmp_path / "client.py").write_text(UNARY)
    httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60)
    before = figures(triton)["generation_tokens"]
    run(environment / "python", tmp_path / "client.py", triton["grpc"], leaving, str(ASKED_FOR))
    assert made_since(triton, before) < ASKED_FOR


def test_who_leaves_a_stream_over_http(triton: dict[str, Any]) -> None:
    httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60)
    before = figures(triton)["generation_tokens"]
    asked = {**LONG, "streaming": True}
    with httpx.stream("POST", f"{triton['url']}/neva/generate_stream", json=asked) as stream:
        next(stream.iter_lines())
    assert made_since(triton, before) < ASKED_FOR


@pytest.mark.parametrize(  # Triton's /infer takes no decoupled model
    ("model", "way"), [("neva", "generate"), ("neva_whole", "generate"), ("neva_whole", "infer")]
)
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "text_input is missing"),
        ({"text_input": "a", "sampling_param_max_tokens": 0}, "sampling_param_max_tokens: Input"),
        ({"text_input": "a", "image_url": NO_IMAGE}, "image 1: the image is not a PNG"),
        ({"text_input": "a", "image_url": NO_IMAGE + "!"}, "image 1: the image's base64 is not"),
        ({"text_input": "a", "image_url": "tensor:" + "9" * 5000}, "image 1: this server fetches"),
    ],
    ids=["missing", "range", "image", "base64", "tensor"],
)
def test_what_is_wrong_is_said(
    triton: dict[str, Any], model: str, way: str, wrong: Mapping[str, Any], sentence: str
) -> None:
    sent = {"sampling_param_seed": 1, **wrong}
    kinds = {"sampling_param_seed": "UINT64", "sampling_param_max_tokens": "INT32"}
    inputs = [
        {"name": name, "shape": [1], "datatype": kinds.get(name, "BYTES"), "data": [value]}
        for name, value in sent.items()
    ]
    body = {"inputs": inputs} if way == "infer" else sent
    answer = httpx.post(f"{triton['url']}/{model}/{way}", json=body)
    assert answer.status_code == 400 and answer.json()["error"].startswith(sentence)


def test_what_is_wrong_is_said_over_grpc(
    triton: dict[str, Any], environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "client.py").write_text(UNARY)
    said = run(environment / "python", tmp_path / "client.py", triton["grpc"], "wrong", "9")
    assert said.startswith("[StatusCode.INVALID_ARGUMENT] text_input is not UTF-8")


def test_pictures_are_decoded_two_at_a_time(triton: dict[str, Any]) -> None:
    def ask(shade: int) -> int:
        buffer = io.BytesIO()
        Image.new("RGB", (5000, 5000), (shade, 0, 0)).save(buffer, "PNG")
        asked = {**ASKED, "image_url": data_uri(buffer.getvalue())}
        return httpx.post(f"{triton['url']}/neva/generate", json=asked, timeout=120).status_code

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(ask, range(10))) == {200}
    (stub,) = stubs(triton["models"] / "neva")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{stub}/status").read_text())
    assert int(peak) < 1_500_000


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_triton_that_ends_amid_answers(
    source: Checkpoint, environment: Path, tmp_path: Path, end: signal.Signals
) -> None:
    def ask(model: str) -> None:
        with suppress(httpx.TransportError):
            httpx.post(f"{triton['url']}/{model}/generate", json=LONG, timeout=120)

    with (
        ThreadPoolExecutor(8) as pool,
        running(source, environment, tmp_path, "--exit-timeout-secs=1") as triton,
    ):
        begun = stubs(triton["models"]) + workers(triton["pid"])
        assert len(begun) == 10
        for model in ("neva", "neva_whole") * 4:
            pool.submit(ask, model)
        time.sleep(2)
        os.kill(triton["pid"], end)
    left = left_of(begun)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
