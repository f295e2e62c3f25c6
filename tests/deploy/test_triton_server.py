"""A real Triton serves what `neva export ... triton` writes: `pytest -m servers tests/deploy`."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from environments import run
from server_house import data_uri, png
from tiny_llava import write_checkpoint
from triton_server import (
    CLIENT,
    cpu_seconds,
    figures,
    left_of,
    running,
    stubs,
    triton_environment,
    workers,
)

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling, collect
from neva.images import read_image
from neva.model import Checkpoint
from neva.prompts.conversation import Conversation, ImageSlot, user

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]
SAMPLING = Sampling(0.9, 0.95, 12, 5)
SENT = {
    "sampling_param_max_tokens": SAMPLING.max_tokens,
    "sampling_param_temperature": SAMPLING.temperature,
    "sampling_param_top_p": SAMPLING.top_p,
    "sampling_param_seed": SAMPLING.seed,
}
ASKED = {"text_input": "What is it?", "image_url": data_uri(png()), **SENT}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("tritons"), context=4096))


@pytest.fixture(scope="module")
def expected(source: Checkpoint) -> tuple[str, int, int]:
    """Text, prompt tokens and completion tokens of our engine by itself."""
    conversation = Conversation((user(ImageSlot(0), "\nWhat is it?"),))
    engine = open_engine(source, precision="fp32")
    try:
        text, last = collect(
            engine.generate([Request(conversation, (read_image(png()),), SAMPLING)])[0]
        )
    finally:
        engine.close()
    assert last.usage is not None and last.usage.completion_tokens > 4
    return text, last.usage.prompt_tokens, last.usage.completion_tokens


@pytest.fixture(scope="module")
def environment() -> Path:
    return triton_environment()


@pytest.fixture(scope="module")
def triton(
    source: Checkpoint, environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A running Triton whose models can be loaded anew."""
    options = ("--model-control-mode=explicit", "--load-model=*")
    with running(source, environment, tmp_path_factory.mktemp("triton"), *options) as found:
        yield found


def test_whole_answers_are_our_engines(
    triton: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    for model in ("neva", "neva_whole"):
        said = httpx.post(f"{triton['url']}/{model}/generate", json=ASKED, timeout=60).json()
        assert (said["text_output"], said["prompt_tokens"], said["completion_tokens"]) == expected
        assert said["finish_reason"] in ("stop", "length")


def test_infer_over_http(triton: dict[str, Any], expected: tuple[str, int, int]) -> None:
    content = [{"type": "image_url", "image_url": {"url": ASKED["image_url"]}},
               {"type": "text", "text": ASKED["text_input"]}]  # fmt: skip
    kinds = {"max_tokens": "INT32", "seed": "UINT64"}
    inputs = [{"name": "messages", "shape": [1], "datatype": "BYTES",
               "data": [json.dumps([{"role": "user", "content": content}])]}]  # fmt: skip
    for name, value in SENT.items():
        kind = kinds.get(name.removeprefix("sampling_param_"), "FP32")
        inputs.append({"name": name, "shape": [1], "datatype": kind, "data": [value]})
    answer = httpx.post(f"{triton['url']}/neva_whole/infer", json={"inputs": inputs}, timeout=60)
    outputs = {one["name"]: one["data"][0] for one in answer.json()["outputs"]}
    assert outputs["text_output"] == expected[0]


def test_streams_over_http_and_grpc(
    triton: dict[str, Any], environment: Path, expected: tuple[str, int, int], tmp_path: Path
) -> None:
    asked = {**ASKED, "streaming": True}
    with httpx.stream(
        "POST", f"{triton['url']}/neva/generate_stream", json=asked, timeout=60
    ) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line[:6] == "data: "]
    assert "".join(event["text_output"] for event in events) == expected[0] and len(events) > 3
    assert [event["finish_reason"] != "" for event in events] == [False] * (len(events) - 1) + [
        True
    ]
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "picture.png").write_bytes(png())
    python = environment / "python"
    said = run(
        python, tmp_path / "client.py", triton["grpc"], tmp_path / "picture.png", json.dumps(SENT)
    )
    text, pieces = json.loads(said)
    assert text == expected[0] and pieces > 3


def test_many_at_once_and_a_lost_worker(
    triton: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    def ask(_: int) -> str:
        said = httpx.post(f"{triton['url']}/neva_whole/generate", json=ASKED, timeout=120)
        return str(said.json().get("text_output"))

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(32))) == {expected[0]}
    (worker,) = workers(triton["pid"])
    os.kill(worker, 9)
    time.sleep(0.2)
    assert ask(0) == expected[0]


def test_who_leaves_is_not_answered_on(
    triton: dict[str, Any], environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "picture.png").write_bytes(png())
    python = environment / "python"
    (worker,) = workers(triton["pid"])
    spent = []
    for last in ("stay", "leave"):
        before = cpu_seconds(worker)
        settings = json.dumps(
            {"sampling_param_temperature": 0.0, "sampling_param_max_tokens": 3000}
        )
        picture = tmp_path / "picture.png"
        run(python, tmp_path / "client.py", triton["grpc"], picture, settings, last)
        time.sleep(1)
        spent.append(cpu_seconds(worker) - before)
    assert spent[1] < spent[0] / 3, spent


def test_metrics_tell_tokens_and_caches(triton: dict[str, Any]) -> None:
    httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60)
    before = figures(triton)
    said = httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60).json()
    more = {name: value - before[name] for name, value in figures(triton).items()}
    assert more["prompt_tokens"] == more["prefix_cache_queries"] == said["prompt_tokens"]
    assert more["generation_tokens"] == said["completion_tokens"]
    assert more["image_cache_queries"] == more["image_cache_hits"] == 1


def test_counters_go_on_when_the_model_is_loaded_anew(triton: dict[str, Any]) -> None:
    for _ in range(2):
        httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60)
    before, old = figures(triton), stubs(triton["models"] / "neva")
    place = triton["url"].replace("/models", "/repository/models/neva")
    assert httpx.post(f"{place}/unload", timeout=60).status_code == 200
    assert not left_of(old)
    assert httpx.post(f"{place}/load", timeout=120).status_code == 200
    said = httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60).json()
    more = {name: value - before[name] for name, value in figures(triton).items()}
    assert more["prefix_cache_queries"] == more["prompt_tokens"] == said["prompt_tokens"]
