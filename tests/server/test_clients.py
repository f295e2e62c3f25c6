"""Clients that others wrote, each in an environment of its own with a pinned version.

`pytest -m clients tests/server/test_clients.py`; the environments are kept in the user's cache.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from echo_engine import EchoEngine
from server_house import data_uri, png, serving

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
    ("llama_index_nvidia.py", "llama-index-multi-modal-llms-nvidia", "0.5.2"),
    ("llama_index_nvidia.py", "llama-index-multi-modal-llms-nvidia", "0.3.0"),
]
NODE_CLIENTS = ("openai@6.49.0", "node-fetch@3.3.2")


def run(*command: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python_with(package: str, version: str) -> Path:
    """The interpreter of an environment that has the package; made on first use."""
    folder = cache_dir() / "clients" / f"{package}-{version}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "-q", f"{package}=={version}")
        (folder / "complete").touch()
    return folder / "bin" / "python"


@pytest.mark.parametrize(("script", "package", "version"), PYTHON_CLIENTS)
def test_python_client(script: str, package: str, version: str) -> None:
    python = python_with(package, version)
    with serving(EchoEngine(pause=0.002)) as live:
        said = run(python, SCRIPTS / script, live.url, data_uri(png()), version)
    assert said == "fine\n"


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_node_clients() -> None:
    folder = cache_dir() / "clients" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    run("npm", "install", "--silent", "--no-save", *NODE_CLIENTS, folder=folder)
    shutil.copy(SCRIPTS / "openai_node.mjs", folder)
    with serving(EchoEngine(pause=0.002)) as live:
        said = run("node", "openai_node.mjs", live.url, data_uri(png()), folder=folder)
    assert said == "fine\n"


def test_schemathesis_finds_no_server_error() -> None:
    """Generated requests, good and bad, over the whole OpenAPI document."""
    python = python_with("schemathesis", "4.32.5")
    checks = "not_a_server_error,unsupported_method,content_type_conformance"
    options = ("--max-time", "60", "--phases", "examples,coverage,fuzzing", "--no-color")
    with serving(EchoEngine()) as live:
        schema = f"{live.url}/openapi.json"
        checks += ",response_schema_conformance,status_code_conformance"
        run(python.parent / "st", "run", schema, "--checks", checks, *options)
