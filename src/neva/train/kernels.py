"""The C kernels of `kernels.c` and `attention.c`: compiled once per machine, called without a copy.

Eager bfloat16 spends a third of a training step on a CPU in chains of small operations. Each kernel
is one such chain in one pass. There is nothing to install: the system's C compiler makes a library
of them in the cache folder. Where there is none, training does without and says so in the log.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from neva.cachedir import cache_dir

SOURCES = tuple(Path(__file__).with_name(f"{name}.c") for name in ("kernels", "attention"))
HEADER = Path(__file__).with_name("real.h")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
ENOUGH = 120  # seconds for a compiler; it needs two

_REAL = {torch.float32: (), torch.bfloat16: ("-DBF16",)}

_log = logging.getLogger(__name__)


class Kernels:
    """The kernels of one dtype. Every tensor is contiguous, on the CPU, and of that dtype."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def _call(self, name: str, *values: int | float | Tensor | None) -> None:
        getattr(self._library, name)(*map(_as_c, values))

    def norm(
        self, x: Tensor, weight: Tensor, epsilon: float, add: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(x + add, its RMSNorm, 1 / rms): (T, D), (T, D), float32 (T,)."""
        total = x if add is None else torch.empty_like(x)
        y, inverse = torch.empty_like(x), torch.empty(len(x), dtype=torch.float32)
        self._call("rms_forward", *x.shape, x, add, weight, epsilon, total, y, inverse)
        return total, y, inverse

    def norm_again(self, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
        """The RMSNorm of x (T, D) whose 1 / rms is known."""
        y = torch.empty_like(x)
        self._call("rms_again", *x.shape, x, weight, inverse, y)
        return y

    def norm_backward(
        self, g: Tensor, x: Tensor, weight: Tensor, inverse: Tensor, residual: Tensor
    ) -> Tensor:
        """(T, D): `residual` plus the gradient of x; written over `g`."""
        self._call("rms_backward", *x.shape, g, x, weight, inverse, residual, g)
        return g

    def norm_weight(self, g: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
        """(D,): the gradient of the norm's weight."""
        total = torch.empty(x.shape[1], dtype=torch.float32)
        self._call("rms_weight", *x.shape, g, x, inverse, total)
        return total.to(x.dtype)

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up."""
        out = torch.empty_like(gate)
        self._call("swiglu_forward", gate.numel(), gate, up, out)
        return out

    def swiglu_backward(
        self, g: Tensor, gate: Tensor, up: Tensor, again: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradients of gate and up, and `again` the product; writes over `g`."""
        dgate, out = torch.empty_like(g), torch.empty_like(g) if again else None
        self._call("swiglu_backward", g.numel(), g, gate, up, dgate, g, out)
        return dgate, g, out

    def entropy(
        self, logits: Tensor, targets: Tensor, learns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The summed cross-entropy of (S, V) at (S,), and its gradient in the logits' place."""
        losses = torch.empty(len(logits), dtype=torch.float32)
        self._call("entropy", *logits.shape, targets.contiguous(), int(learns), logits, losses)
        return losses.sum(), logits if learns else None

    def to_blocks(
        self,
        rows: Tensor,
        borders: Tensor,
        shape: tuple[int, int, int],
        turn: tuple[Tensor, Tensor] | None = None,
        back: bool = False,
    ) -> Tensor:
        """(T, H * d) -> flat blocks, one a document: (shared, L, group, d). `shape` is of these.

        `turn` is cos and sin (T, d) of a rotation on the way; `back` is its transpose.
        """
        return self._heads("to_blocks", rows, borders, shape, turn, back)

    def from_blocks(
        self,
        blocks: Tensor,
        borders: Tensor,
        shape: tuple[int, int, int],
        turn: tuple[Tensor, Tensor] | None = None,
        back: bool = False,
    ) -> Tensor:
        """The inverse of `to_blocks`, (T, H * d) as `blocks`."""
        return self._heads("from_blocks", blocks, borders, shape, turn, back)

    def _heads(
        self,
        name: str,
        x: Tensor,
        borders: Tensor,
        shape: tuple[int, int, int],
        turn: tuple[Tensor, Tensor] | None,
        back: bool,
    ) -> Tensor:
        out = torch.empty_like(x)
        cos, sin = turn or (None, None)
        self._call(name, len(borders) - 1, borders, *shape, x, cos, sin, int(back), out)
        return out

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        borders: Tensor,
        shape: tuple[int, int, int],
        longest: int,
        scale: float,
    ) -> None:
        """Causal attention of documents of at most `longest` tokens into `out`; flat blocks.

        Scores and weights stay float32, which bfloat16 modules round.
        """
        self._attend("attend_forward_all", borders, shape, longest, scale, query, key, value, out)

    def attend_backward(
        self,
        g: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        grads: tuple[Tensor, Tensor, Tensor],
        borders: Tensor,
        shape: tuple[int, int, int],
        longest: int,
        scale: float,
    ) -> None:
        """The gradients of query, key and value, from that of what `attend` gave."""
        self._attend("attend_backward_all", borders, shape, longest, scale, g, *inputs, *grads)

    def _attend(
        self,
        name: str,
        borders: Tensor,
        shape: tuple[int, int, int],
        longest: int,
        scale: float,
        *blocks: Tensor,
    ) -> None:
        given: list[int | float | Tensor | None] = [len(borders) - 1, borders, *shape, longest]
        if getattr(self._library, name)(*map(_as_c, [*given, scale, *blocks])):
            raise MemoryError(f"no memory for the attention of {longest} tokens")

    def softmax(self, scores: Tensor, first: int, group: int, scale: float) -> Tensor:
        """Causal softmax of (B, rows, columns), in place; row r is position first + r // group."""
        self._call("softmax_forward", *scores.shape, first, group, scale, scores)
        return scores

    def softmax_backward(
        self, g: Tensor, weights: Tensor, first: int, group: int, scale: float
    ) -> Tensor:
        """The gradient of the scores, written over `g`, that of the softmax's `weights`."""
        self._call("softmax_backward", *g.shape, first, group, scale, weights, g)
        return g


def _as_c(value: int | float | Tensor | None) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None) if value is None else ctypes.c_int64(value)


@functools.cache
def open_kernels(dtype: torch.dtype) -> Kernels | None:
    """The kernels of float32 or bfloat16; None, with a line in the log, where they cannot be."""
    if dtype not in _REAL:
        return None
    try:
        return Kernels(ctypes.CDLL(str(_library(_REAL[dtype]))))
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("training without C kernels, at about two thirds of the speed: %s", error)
        return None


def _library(options: Sequence[str]) -> Path:
    """The compiled library, made now if this machine has none of this source."""
    text = b"".join(path.read_bytes() for path in (HEADER, *SOURCES))
    key = hashlib.sha256(text + _machine() + repr((FLAGS, *options)).encode())
    folder = cache_dir() / "kernels"
    made = folder / f"{key.hexdigest()[:24]}.so"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            fresh = Path(aside) / "kernels.so"
            _compile(options, fresh)
            fresh.replace(made)
    return made


def _machine() -> bytes:
    """What -march=native depends on; a home folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor().encode()
    return "\n".join(x for x in lines if x.startswith(("model name", "flags", "Features"))).encode()


def _compile(options: Sequence[str], out: Path) -> None:
    """Compile with the first compiler that can, with OpenMP if it can. OSError with the reason."""
    reason = "no C compiler was found"
    asked = os.environ.get("CC")
    for compiler in (asked,) if asked else COMPILERS:
        for threads in (("-fopenmp",), ()):
            sources = [str(path) for path in SOURCES]
            command = [compiler, *FLAGS, *threads, *options, *sources, "-o", str(out), "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=ENOUGH)
                return
            except FileNotFoundError:
                continue
            except subprocess.CalledProcessError as error:
                reason = f"{compiler}: {error.stderr.decode(errors='replace').strip()[:200]}"
    raise OSError(reason)
