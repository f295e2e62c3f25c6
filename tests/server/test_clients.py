"""Clients that others wrote, each in an environment of its own with a pinned version.

`pytest -m clients tests/server/test_clients.py`; the environments are kept in the user's cache.
"""

import json
import shutil
from pathlib import Path

import pytest
from echo_engine import KnowingEngine
from environments import python_with, run
from server_house import CHAT, NVIDIA, data_uri, png, serving

from neva.cachedir import cache_dir

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1800)]
SCRIPTS = Path(__file__).parent / "clients"
PYTHON_CLIENTS = [
    ("openai_python.py", "openai", "3.54.0"),
    ("openai_python.py", "openai", "2.54.0"),
    ("langchain_nvidia.py", "langchain-nvidia-ai-endpoints", "0.1.7"),
    ("langchain_nvidia.py", "langchain-nvidia-ai-endpoints", "0.2.2"),
    ("langchain_nvidia.py", "langchain-nvidia-ai-endpoints", "0.3.18"),
    ("langchain_nvidia.py", "langchain-nvidia-ai-endpoints", "1.5.0"),
    ("langchain_openai.py", "langchain-openai", "1.7.4"),
    ("llama_index_nvidia.py", "llama-index-multi-modal-llms-nvidia", "0.5.2"),
    ("llama_index_nvidia.py", "llama-index-multi-modal-llms-nvidia", "0.3.0"),
]
NODE_CLIENTS = ("openai@6.49.0", "node-fetch@3.3.2")


@pytest.mark.parametrize(("script", "package", "version"), PYTHON_CLIENTS)
def test_python_client(script: str, package: str, version: str) -> None:
    python = python_with(package, version)
    with serving(KnowingEngine(pause=0.002)) as live:
        said = run(python, SCRIPTS / script, live.url, data_uri(png()), version)
    assert said == "fine\n"


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_node_clients() -> None:
    folder = cache_dir() / "clients" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    run("npm", "install", "--silent", "--no-save", *NODE_CLIENTS, folder=folder)
    shutil.copy(SCRIPTS / "openai_node.mjs", folder)
    with serving(KnowingEngine(pause=0.002)) as live:
        said = run("node", "openai_node.mjs", live.url, data_uri(png()), folder=folder)
    assert said == "fine\n"


@pytest.mark.parametrize("path", [CHAT, NVIDIA])
def test_aiperf(checkpoint: Path, tmp_path: Path, path: str) -> None:
    """NVIDIA's load tool, streaming with pictures; it reads our metrics too."""
    aiperf = python_with("aiperf", "0.13.0").parent / "aiperf"
    engine = KnowingEngine(pause=0.002)
    load = ("--request-count", "6", "--concurrency", "2", "--streaming", "--ui", "none")
    sizes = ("--image-width-mean", "32", "--image-height-mean", "24", "--image-batch-size", "1")
    texts = ("--synthetic-input-tokens-mean", "8", "--tokenizer", checkpoint)
    with serving(engine) as live:
        where = ("--url", live.url, "--endpoint-type", "chat", "--custom-endpoint", path)
        out = ("--artifact-dir", tmp_path)
        run(aiperf, "profile", "-m", "nvidia/neva-22b", *where, *load, *sizes, *texts, *out)
    said = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert said["request_count"]["avg"] == 6 and said["error_summary"] == []
    assert said["num_images"]["avg"] == 1 and said["time_to_first_token"]["count"] == 6
    assert said["usage_completion_tokens"]["min"] > 1
    seen = json.loads((tmp_path / "server_metrics_export.json").read_text())
    assert seen["summary"]["endpoints_successful"] == [f"{live.url}/metrics"]
    assert {len(stream.request.images) for stream in engine.streams} == {1}
