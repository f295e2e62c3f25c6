"""A real Triton serves what `neva export ... triton` writes: `pytest -m servers tests/deploy`.

The server is tritonserver 2.51.0 (NGC 24.10) as nvidia-pytriton bundles it, in an environment with
this tree that is kept in the user's cache (benchmarks/serve_triton.py starts it).
"""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from environments import run
from real_server import free_port
from server_house import data_uri, png
from tiny_llava import write_checkpoint

from neva.cachedir import cache_dir
from neva.deploy.triton.repository import write_triton
from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling, collect
from neva.images import read_image
from neva.model import Checkpoint
from neva.prompts.conversation import Conversation, ImageSlot, user

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAMPLING = Sampling(0.9, 0.95, 12, 5)
SENT = {
    "sampling_param_max_tokens": SAMPLING.max_tokens,
    "sampling_param_temperature": SAMPLING.temperature,
    "sampling_param_top_p": SAMPLING.top_p,
    "sampling_param_seed": SAMPLING.seed,
}
ASKED = {"text_input": "What is it?", "image_url": data_uri(png()), **SENT}
CLIENT = """
import json, os, queue, sys
import numpy as np
import tritonclient.grpc as grpc
place, picture, settings = sys.argv[1], open(sys.argv[2], "rb").read(), json.loads(sys.argv[3])
kinds = {"max_tokens": ("INT32", np.int32), "seed": ("UINT64", np.uint64)}
values = {"text_input": ("BYTES", [b"What is it?"], object), "image": ("BYTES", [picture], object),
          "streaming": ("BOOL", [True], bool)}
for name, value in settings.items():
    kind, dtype = kinds.get(name.removeprefix("sampling_param_"), ("FP32", np.float32))
    values[name] = kind, [value], dtype
inputs = []
for name, (kind, value, dtype) in values.items():
    tensor = grpc.InferInput(name, [1], kind)
    tensor.set_data_from_numpy(np.array(value, dtype=dtype))
    inputs.append(tensor)
client, heard = grpc.InferenceServerClient(place), queue.Queue()
client.start_stream(lambda result, error: heard.put((result, error)))
client.async_stream_infer("neva", inputs, enable_empty_final_response=True)
text, pieces = "", 0
while True:
    result, error = heard.get(timeout=60)
    if error is not None:  # an exception would leave the client's own thread, and so the process
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    piece = result.as_numpy("text_output")
    if piece is not None:
        text, pieces = text + piece[0].decode(), pieces + 1
    if result.get_response().parameters["triton_final_response"].bool_param:
        break
    if sys.argv[4:] == ["leave"]:
        os._exit(0)
client.stop_stream()
print(json.dumps([text, pieces]))
"""


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
    """The `bin` of an environment with Triton and this tree, as benchmarks/ makes it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from serve_peers import TRITON
        from serve_venvs import ready, refresh
    finally:
        sys.path.remove(str(BENCHMARKS))
    found = ready(TRITON, cache_dir() / "clients", build=True)
    refresh(found.parent)
    return found


@pytest.fixture(scope="module")
def triton(
    source: Checkpoint, environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A running Triton: its HTTP URL, gRPC address and log."""
    folder = tmp_path_factory.mktemp("triton")
    write_triton(source, folder / "out", precision="fp32")
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    launcher = (environment / "python", BENCHMARKS / "serve_triton.py", folder / "out")
    command = [str(word) for word in (*launcher, *ports.values())]
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    url = f"http://127.0.0.1:{ports['http']}/v2/models"
    try:
        _wait(url, process, log)
        yield {
            "url": url,
            "metrics": f"http://127.0.0.1:{ports['metrics']}/metrics",
            "grpc": f"127.0.0.1:{ports['grpc']}",
            "pid": process.pid,
        }
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until both models are ready; AssertionError with the log if they do not come."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if all(
                httpx.get(f"{url}/{m}/ready").status_code == 200 for m in ("neva", "neva_whole")
            ):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


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
    from concurrent.futures import ThreadPoolExecutor

    def ask(_: int) -> str:
        said = httpx.post(f"{triton['url']}/neva_whole/generate", json=ASKED, timeout=120)
        return str(said.json().get("text_output"))

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(32))) == {expected[0]}
    (worker,) = workers(triton["pid"])
    os.kill(worker, 9)
    time.sleep(0.2)
    assert ask(0) == expected[0]


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


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


def workers(triton: int) -> list[int]:
    """Our engine's processes below a Triton's."""
    found = subprocess.run(["pgrep", "-f", "neva.engine.worker"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split() if _descends(int(pid), triton)]


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_metrics_tell_tokens_and_caches(triton: dict[str, Any]) -> None:
    def figures() -> dict[str, float]:
        lines = httpx.get(triton["metrics"]).text.splitlines()
        ours = [line for line in lines if line.startswith("neva_engine_")]
        return {line.partition("{")[0][12:]: float(line.split()[-1]) for line in ours}

    httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60)
    before = figures()
    said = httpx.post(f"{triton['url']}/neva/generate", json=ASKED, timeout=60).json()
    more = {name: value - before[name] for name, value in figures().items()}
    assert more["prompt_tokens"] == more["prefix_cache_queries"] == said["prompt_tokens"]
    assert more["generation_tokens"] == said["completion_tokens"]
    assert more["image_cache_queries"] == more["image_cache_hits"] == 1


def test_what_is_wrong_is_said(triton: dict[str, Any]) -> None:
    bad = {
        "text_input": "a",
        "image_url": "data:image/png;base64," + base64.b64encode(b"no").decode(),
    }
    for model in ("neva", "neva_whole"):
        answer = httpx.post(f"{triton['url']}/{model}/generate", json=bad)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("image 1: the image is not a PNG")
