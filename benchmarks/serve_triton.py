"""Become a Triton for what `neva export ... triton` wrote; and how such a one is asked.

    ENV/bin/python benchmarks/serve_triton.py OUT HTTP_PORT GRPC_PORT METRICS_PORT [OPTION...]

ENV has nvidia-pytriton, whose tritonserver it is (2.51.0, NGC 24.10), and neva: Triton's python
backend takes its Python from the first environment in PATH. Replaces this process by Triton, which
is given the options.
"""

import json
import os
import sys
import sysconfig
import time
from pathlib import Path

from serve_client import Answer, HttpAsker

PORTS = ("http", "grpc", "metrics")


def main() -> None:
    """Lay out the backend's folder beside the models and run Triton."""
    out, ports = Path(sys.argv[1]), dict(zip(PORTS, sys.argv[2:5], strict=True))
    packages = Path(sysconfig.get_paths()["purelib"])
    bundle = packages / "pytriton" / "tritonserver"
    stub = bundle / "python_backend_stubs" / sysconfig.get_python_version()
    backend = out / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    for file in (*(bundle / "backends" / "python").iterdir(), *stub.iterdir()):
        if not (backend / file.name).is_symlink():
            (backend / file.name).symlink_to(file)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        # the stub would else find the system's libpython of another patch release
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
    }
    program = str(bundle / "bin" / "tritonserver")
    words = [
        program,
        f"--model-repository={out / 'models'}",
        f"--backend-directory={backend.parent}",
        "--allow-gpu-metrics=false",
        *(f"--{name}-port={port}" for name, port in ports.items()),
        *sys.argv[5:],
    ]
    os.execve(program, words, environment)


class TritonAsker(HttpAsker):
    """Asks `neva` in a Triton, by its generate extension, what others are asked as OpenAI's."""

    path = "/v2/models/neva/generate_stream"

    def dressed(self, body: dict[str, object]) -> dict[str, object]:
        """A chat completion's body as Triton's inputs."""
        return {
            "messages": json.dumps(body["messages"]),
            "streaming": True,
            "sampling_param_max_tokens": body["max_tokens"],
            "sampling_param_temperature": float(str(body["temperature"])),
        }

    def hear(self, event: bytes, answer: Answer) -> None:
        """A piece of text, or the last one with its count."""
        now, data = time.perf_counter(), json.loads(event)
        if data.get("error"):
            raise ValueError(str(data["error"])[:300])
        if data["finish_reason"]:
            answer.counted = int(data["completion_tokens"])
        if data["text_output"]:
            answer.stamps.append(now)
            answer.text += data["text_output"]


if __name__ == "__main__":
    main()
