"""`neva serve` in a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from echo_engine import wait_until
from server_house import WEB


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


@contextmanager
def serving(
    checkpoint: Path | None,
    *words: str,
    env: Mapping[str, str] | None = None,
    said: Path | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and process, ready to answer; `words` go to the command, `env` to its environment.

    Without a checkpoint it is what `words` say. What it writes goes to the file `said`, or nowhere.
    """
    port = free_port()
    command = [sys.executable, "-m", "neva", "serve", "--port", str(port), *words]
    if checkpoint is not None:
        command += ["--model", str(checkpoint), "--precision", "fp32"]
    whole = {**os.environ, **(env or {})}
    with (said or Path(os.devnull)).open("wb") as sink:
        process = subprocess.Popen(command, env=whole, stdout=sink, stderr=sink)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, said and said.read_text()
        try:
            return WEB.get(f"{url}/v1/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        assert wait_until(ready, 240)
        yield url, process
    finally:
        process.kill()
        process.wait()
