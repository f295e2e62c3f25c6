"""llama.cpp's own server over an exported checkpoint, out of the package xllamacpp."""

import base64
import io
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from environments import python_with
from PIL import Image

from neva.deploy.gguf.export import file_names, write_gguf
from neva.deploy.gguf.vision import ClassToken
from neva.model import Checkpoint

VERSION = "2026.10.11549"  # xllamacpp's, and with its last number llama.cpp's
SERVER = """
import sys, threading, xllamacpp
language, vision, verbosity = sys.argv[1:]
wants = xllamacpp.CommonParams()
wants.model.path, wants.mmproj.path = language, vision
wants.hostnames, wants.port, wants.use_jinja = ["127.0.0.1"], 0, True
wants.n_parallel, wants.n_ctx, wants.verbosity = 1, 1024, int(verbosity)
wants.cpuparams.n_threads = wants.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(wants)
print("AT", server.listening_address, flush=True)
threading.Event().wait()
"""


class Server:
    """llama.cpp's server over the two files."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    def post(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.loads(answer.read())

    def messages(self, image: Image.Image | None, question: str) -> list[Any]:
        parts: list[Any] = [{"type": "text", "text": question}]
        if image is not None:
            data = io.BytesIO()
            image.save(data, "PNG")
            uri = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
            parts.insert(0, {"type": "image_url", "image_url": {"url": uri}})
        return [{"role": "user", "content": parts}]

    def answer(self, image: Image.Image, question: str, tokens: int = 24) -> tuple[str, int]:
        """(text, tokens of the prompt)"""
        said = self.post(
            "/v1/chat/completions",
            messages=self.messages(image, question),
            temperature=0,
            max_tokens=tokens,
            cache_prompt=False,
        )
        return said["choices"][0]["message"]["content"], said["usage"]["prompt_tokens"]

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.post(
            "/tokenize", content=text, add_special=False, parse_special=True
        )["tokens"]
        return found


@contextmanager
def serving(
    path: Path,
    out: Path,
    kind: str = "f32",
    verbosity: int = 3,
    class_token: ClassToken = "last",
) -> Iterator[Server]:
    """The server over a fresh export of the checkpoint, until the block ends."""
    source = Checkpoint.open(path)
    write_gguf(source, out, kind, class_token)
    files = [str(out / name) for name in file_names(source, kind)]
    log = out / "log"
    command = [str(python_with("xllamacpp", VERSION)), "-c", SERVER, *files, str(verbosity)]
    environment = {"MTMD_DEBUG_EMBEDDINGS": "1", "PATH": "/usr/bin:/bin"}
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        for _ in range(600):
            if found := re.search(r"^AT (http\S+)", log.read_text(errors="replace"), re.M):
                yield Server(found[1], log)
                return
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        pytest.fail("the server did not start: " + log.read_text(errors="replace")[-2000:])
    finally:
        process.kill()
        process.wait()
