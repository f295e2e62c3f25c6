"""A GGUF file written tensor by tensor: what is in it is known before its numbers are read.

So a model of any size needs the memory of its largest tensor, not of all of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import quantize
from numpy.typing import NDArray

from neva.errors import CheckpointError

Array = NDArray[Any]
F32 = GGMLQuantizationType.F32

KINDS: Mapping[str, tuple[Any, Any]] = MappingProxyType(
    {
        "f32": (F32, LlamaFileType.ALL_F32),
        "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
        "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
        "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    }
)
"""How matrices are stored: ggml's type of them, and the name that a whole file of them has."""
_HALF = float(np.finfo(np.float16).max)
LIMITS: Mapping[Any, tuple[float, str]] = MappingProxyType(
    {
        GGMLQuantizationType.F16: (_HALF, "float16"),
        GGMLQuantizationType.BF16: (float.fromhex("0x1.fep127"), "bfloat16"),
        GGMLQuantizationType.Q8_0: (127 * _HALF, "q8_0, whose blocks are scaled in float16"),
    }
)
"""What the largest number of a type is; beyond it lies infinity."""


@dataclass(frozen=True)
class Part:
    """One tensor of the file. `read` gives its numbers, in any floating type; asked for once.

    `exact`: float32 whatever the file's kind is, as ggml wants vectors and tables of positions.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]
    exact: bool = False

    def stored(self, kind: str) -> Any:
        """ggml's type of it: vectors, and matrices whose rows do not fill blocks, stay float32."""
        wanted = KINDS[kind][0]
        block = GGML_QUANT_SIZES[wanted][0]
        return F32 if self.exact or len(self.shape) == 1 or self.shape[-1] % block else wanted


def check_kind(kind: str) -> None:
    """CheckpointError, with what exists, for an unknown kind."""
    if kind not in KINDS:
        raise CheckpointError(f"There is no GGUF kind {kind!r}; choose one of: {', '.join(KINDS)}.")


def plain(name: str, source: Array, exact: bool = False) -> Part:
    """A tensor written as it is."""
    return Part(name, source.shape, lambda: source, exact)


def new_file(file: Path, architecture: str, name: str, kind: str) -> GGUFWriter:
    """A writer that has the general entries; `describe` it further, then `write_parts`."""
    writer = GGUFWriter(file, architecture)
    writer.add_name(name)
    writer.add_file_type(int(KINDS[kind][1]))
    if kind == "q8_0":
        writer.add_quantization_version(GGML_QUANT_VERSION)
    return writer


def write_parts(writer: GGUFWriter, parts: Iterable[Part], kind: str, source: Path) -> None:
    """Write the file: its entries, then each part's numbers in turn; the writer is closed.

    `source`, the checkpoint, is for sentences about numbers that the file cannot hold.
    """
    chosen = [(part, part.stored(kind)) for part in parts]
    for part, stored in chosen:
        block, size = GGML_QUANT_SIZES[stored]
        taken = math.prod(part.shape) // block * size
        writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), taken, stored)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for part, stored in chosen:
            writer.write_tensor_data(_numbers(part, stored, source).view(_Written))
    finally:
        writer.close()


class _Written(np.ndarray[Any, Any]):
    """An array that Python's own file writes.

    numpy writes by a stream of C's: on a full disk it loses a small array without a word, and for
    a large one raises an error without number and file.
    """

    def tofile(self, file: Any, sep: str = "", format: str = "%s") -> None:
        """Write the bytes; OSError with a number, of which `written_aside` makes a sentence."""
        file.write(np.ascontiguousarray(self).data)


def _numbers(part: Part, stored: Any, source: Path) -> Array:
    """The numbers as they lie in the file; CheckpointError where it cannot hold them."""
    with np.errstate(over="ignore"):  # of float64: what becomes infinite is refused
        values = np.ascontiguousarray(part.read(), dtype=np.float32)
    if values.shape != part.shape:
        raise ValueError(f"{part.name} has the shape {values.shape}, not {part.shape}")
    if values.size:
        _check_range(part.name, values, stored, source)
    found: Array = quantize(values, stored)
    return found


def _check_range(name: str, values: Array, stored: Any, source: Path) -> None:
    """CheckpointError for NaN, infinity, and what would become so; copies nothing."""
    largest = np.maximum(values.max(), -values.min())  # NaN if there is one
    if not np.isfinite(largest):
        raise CheckpointError(
            f"{source}: {name}, as GGUF names it, has numbers that are not finite; the checkpoint "
            "is damaged, copy it again or take one from before."
        )
    limit, words = LIMITS.get(stored, (math.inf, ""))
    if largest > limit:
        raise CheckpointError(
            f"{source}: {name}, as GGUF names it, has numbers too large for {words}; export with "
            "the kind f32 (`--weights f32`)."
        )
