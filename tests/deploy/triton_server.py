"""A real Triton for tests, its clients, and a look at its processes.

The server is tritonserver 2.51.0 (NGC 24.10) as nvidia-pytriton bundles it, in an environment with
this tree that is kept in the user's cache (benchmarks/serve_triton.py starts it).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from real_server import free_port

from neva.cachedir import cache_dir
from neva.deploy.triton.repository import write_triton
from neva.model import Checkpoint

ASKED_FOR = 3000
"""Tokens of a long answer, greedy: a tiny model's do not end before."""
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
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
UNARY = """
import os, sys, threading
import numpy as np
import tritonclient.grpc as grpc
def tensor(name, kind, value, dtype):
    made = grpc.InferInput(name, [1], kind)
    made.set_data_from_numpy(np.array([value], dtype=dtype))
    return made
inputs = [tensor("text_input", "BYTES", b"\\xff" if sys.argv[2] == "wrong" else b"a", object),
          tensor("sampling_param_max_tokens", "INT32", int(sys.argv[3]), np.int32),
          tensor("sampling_param_temperature", "FP32", 0, np.float32)]
ended = threading.Event()
def heard(result, error):
    print(error, flush=True)
    ended.set()
client = grpc.InferenceServerClient(sys.argv[1])
call = client.async_infer("neva_whole", inputs, heard)
ended.wait(1 if sys.argv[2] in ("cancel", "leave") else 60)
if sys.argv[2] == "cancel":
    call.cancel()
    ended.wait(5)
os._exit(0)  # as one that is killed: nothing is said to the server
"""


def triton_environment() -> Path:
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


@contextmanager
def running(
    source: Checkpoint, environment: Path, folder: Path, *options: str
) -> Iterator[dict[str, Any]]:
    """A Triton while it is needed: its HTTP URL, gRPC address, folder of models and process."""
    write_triton(source, folder / "out", precision="fp32")
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    launcher = (environment / "python", BENCHMARKS / "serve_triton.py", folder / "out")
    command = [str(word) for word in (*launcher, *ports.values(), *options)]
    url = f"http://127.0.0.1:{ports['http']}/v2/models"
    process = _started(command, url, folder)
    try:
        yield {
            "url": url,
            "metrics": f"http://127.0.0.1:{ports['metrics']}/metrics",
            "grpc": f"127.0.0.1:{ports['grpc']}",
            "models": folder / "out" / "models",
            "pid": process.pid,
        }
    finally:
        process.terminate()
        process.wait(60)


def _started(command: list[str], url: str, folder: Path) -> "subprocess.Popen[bytes]":
    """A Triton that answers; AssertionError with its log if none comes.

    Now and then 2.51.0 dies by itself while it starts, and leaves stubs: then once more.
    """
    log = folder / "log"
    for _ in range(3):
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink)
        try:
            _wait(url, process, log)
        except AssertionError as error:
            process.kill()
            process.wait()
            for pid in stubs(folder / "out" / "models"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if "boost::interprocess::lock_exception" not in str(error):
                raise
        else:
            return process
    raise AssertionError(log.read_text(errors="replace"))


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until both models are ready; AssertionError with the log if they do not come."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            if all(
                httpx.get(f"{url}/{m}/ready").status_code == 200 for m in ("neva", "neva_whole")
            ):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def workers(triton: int) -> list[int]:
    """Our engine's processes below a Triton's."""
    found = subprocess.run(["pgrep", "-f", "neva.engine.worker"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split() if _descends(int(pid), triton)]


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def stubs(folder: Path) -> list[int]:
    """Processes of Triton's python backend for the models in a folder."""
    found = subprocess.run(["pgrep", "-f", f"_stub {folder}/"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def left_of(pids: list[int]) -> list[int]:
    """Those that are still there after ten seconds."""
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.2)
    return left


def figures(triton: dict[str, Any]) -> dict[str, float]:
    """Our own metrics."""
    lines = httpx.get(triton["metrics"]).text.splitlines()
    ours = [line for line in lines if line.startswith("neva_engine_")]
    return {line.partition("{")[0][12:]: float(line.split()[-1]) for line in ours}
