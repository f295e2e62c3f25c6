"""The card's prototypes in three languages, run as they stand against `neva serve`."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from neva.deploy.card import PROTOTYPE

RUNNERS = {"python": [sys.executable], "javascript": ["node"], "bash": ["bash"]}
NEEDS = {"python": None, "javascript": "node", "bash": "curl"}
SUFFIX = {"python": "py", "javascript": "mjs", "bash": "sh"}
HOST = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The tiny checkpoint behind a free port, without a key."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = int(bound.getsockname()[1])
    env = {name: value for name, value in os.environ.items() if name != "NEVA_API_KEY"}
    env["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    words = [sys.executable, "-m", "neva", "serve", "--model", str(checkpoint)]
    words += ["--port", str(port)]
    process = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                if httpx.get(f"{url}/v1/health/ready", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.parametrize("language", RUNNERS)
def test_prototype_answers(language: str, served: str, picture: Path) -> None:
    needed = NEEDS[language]
    if needed is None:
        pytest.importorskip("requests")
    elif shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed")
    found = re.search(rf"```{language}\n(.*?)```", PROTOTYPE.read_text(), re.DOTALL)
    assert found and HOST in found[1]
    folder = picture.parent
    picture.rename(folder / "picture.png")
    script = folder / f"ask.{SUFFIX[language]}"
    shorter = re.sub(r"(max_tokens\"?: )1024", r"\g<1>8", found[1])
    assert shorter != found[1]
    script.write_text(shorter.replace(HOST, served))
    run = subprocess.run(
        [*RUNNERS[language], str(script)], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip(), run.stderr
    if language == "bash":
        assert '"object":"chat.completion"' in run.stdout
