"""`neva serve` as people run it, and the model card's snippets with another URL and key."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx
import pytest
from echo_engine import wait_until
from real_server import free_port
from server_house import WEB
from tiny_llava import write_checkpoint

from neva.commands.serve import begun, opener
from neva.engine.protocol import Engine
from neva.errors import EngineError

KEY = "nvapi-test-0123456789"
HERE = Path(__file__).parent
TOTAL = "usage"


def command(data: Path, *options: str, key: str | None = KEY) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name != "NEVA_API_KEY"}
    env["XDG_DATA_HOME"] = str(data)
    if key:
        env["NEVA_API_KEY"] = key
    words = [sys.executable, "-m", "neva", "serve", *options]
    return subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)


def ended(data: Path, *options: str, key: str | None = KEY) -> tuple[int, str]:
    process = command(data, *options, key=key)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_a_server_takes_the_fastest_precision_unless_told(checkpoint: Path) -> None:
    for asked, taken in ((None, "int8-fast"), ("fp32", "fp32")):
        engine = opener(checkpoint, "openvino", asked, cache_mib=64, image_cache_mib=16)()
        assert engine.info.precision == taken
        assert engine.info.reproducible == (taken == "fp32")
        engine.close()


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    sizes = ("--precision", "fp32", "--cache-mib", "64", "--image-cache-mib", "16")
    options = ("--model", str(checkpoint), "--port", str(port), "--log", "text", *sizes)
    process = command(tmp_path_factory.mktemp("data"), *options)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, process.communicate()[1]
        try:
            return WEB.get(f"{url}/v1/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    assert wait_until(ready, 60)
    yield url
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert f"{url}/docs" in said and f"{url}/v1/vlm/nvidia/neva-22b" in said
    assert KEY not in said
    assert "Traceback" not in said


def snippet(language: str, url: str) -> str:
    """The card's code with another host and key, and nothing else changed."""
    card = (HERE / "card_snippets.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", card, re.DOTALL)
    assert found
    code = found[1].replace("https://ai.api.nvidia.com", url)
    return code.replace("Bearer ", f"Bearer {KEY}")


def test_python_snippet(served: str) -> None:
    pytest.importorskip("requests")
    run = subprocess.run(
        [sys.executable, "-c", snippet("python", served)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "'object': 'chat.completion'" in run.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_snippet(served: str) -> None:
    run = subprocess.run(["bash", "-c", snippet("bash", served)], capture_output=True, text=True)
    assert run.stdout.rstrip().endswith("\n200")
    assert '"object":"chat.completion"' in run.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_snippet(served: str, tmp_path: Path) -> None:
    """node-fetch is node's own fetch here, so that the test needs no download."""
    code = snippet("javascript", served).replace('import fetch from "node-fetch";', "")
    script = tmp_path / "ask.mjs"
    script.write_text(code)
    run = subprocess.run(["node", str(script)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert '"object":"chat.completion"' in run.stdout


def test_a_wrong_key_is_refused(served: str) -> None:
    answer = WEB.get(f"{served}/v1/models", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401


def test_the_engine_opens_while_the_app_is_made_and_its_failure_is_told_later() -> None:
    begins = Event()

    def open_it() -> Engine:
        begins.set()
        raise EngineError("no such model")

    engine = begun(open_it)
    assert begins.wait(10)
    with pytest.raises(EngineError, match="no such model"):
        engine()


def test_the_engine_begins_before_the_web_framework_is_imported() -> None:
    code = "import neva.commands.serve, sys; print({'fastapi', 'uvicorn'} & set(sys.modules))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "set()"


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = str(bound.getsockname()[1])
        code, said = ended(tmp_path, "--port", port)
    assert code == 1
    assert said == (
        f"neva: port {port} on 127.0.0.1 is in use; stop what listens there or choose another "
        "with --port\n"
    )


def test_a_checkpoint_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    code, said = ended(tmp_path, "--model", str(nowhere), "--port", str(free_port()))
    assert code == 1
    assert said == f"neva: {nowhere}: no such directory; give a checkpoint's path.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--precision", "int9"), "the openvino engine has no precision 'int9'; choose int8, "),
        (("--engine", "torch", "--precision", "int8"), "the torch engine has no precision 'int8'"),
        (("--engine", "onnx"), "there is no engine 'onnx'; choose openvino, torch"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_no_address(
    checkpoint: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    port = str(free_port())
    code, said = ended(tmp_path, "--model", str(checkpoint), "--port", port, *words)
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith(f"neva: {sentence}")


def test_a_model_that_the_engine_cannot_run_is_one_sentence(tmp_path: Path) -> None:
    model = tmp_path / "relu"
    model.mkdir()
    write_checkpoint(model, hidden_act="relu")
    code, said = ended(tmp_path, "--model", str(model), "--port", str(free_port()))
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("neva: config.json: activation 'relu'") and "--engine torch" in said


def test_a_broken_key_file_names_the_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# mine\nann nvapi-in-the-clear\n")
    code, said = ended(tmp_path, "--api-key-file", str(keys))
    assert code == 1
    assert f"{keys}, line 2" in said
    assert "nvapi" not in said
