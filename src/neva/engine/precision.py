"""The engines' precisions, literally: which weights, which arithmetic, what they promise.

ACCURACY makes the CPU plugin compute in float32 with a float32 KV cache, and then a request's text
does not depend on what else is in the batch. bf16 computes in bfloat16 where the CPU has it, the
"-fast" rows quantize activations to int8 as they go, both with an 8-bit KV cache: up to twice the
throughput, and text may vary with load.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neva.errors import NevaError

Weights = Literal["exact", "int8", "int4"]

ACCURATE: Mapping[str, str] = {"EXECUTION_MODE_HINT": "ACCURACY"}
FAST: Mapping[str, str] = {}
"""What the plugin takes for the CPU: bfloat16 where it has it."""
INT8: Mapping[str, str] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "64",
}
"""Activations as int8 with a scale for 64 of them: int4 weights have their scales in that step too.
Asked for by name, since with bfloat16 the plugin quantizes none, and few rows are slower."""
BFLOAT16: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "bf16"}


@dataclass(frozen=True)
class Precision:
    """`weights`: how the graph stores them; `language`, `vision`: OpenVINO's properties.

    `reproducible`: same request, same text, whatever else runs.
    """

    name: str
    weights: Weights
    language: Mapping[str, str]
    vision: Mapping[str, str]
    reproducible: bool


# The vision tower runs one image at a time and is cached, so fast arithmetic is reproducible there.
PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("int8", "int8", ACCURATE, FAST, True),
        Precision("fp32", "exact", ACCURATE, ACCURATE, True),
        Precision("bf16", "exact", BFLOAT16, FAST, False),
        Precision("int4", "int4", ACCURATE, FAST, True),
        Precision("int8-fast", "int8", INT8, FAST, False),
        Precision("int4-fast", "int4", INT8, FAST, False),
    )
}
DEFAULT = "int8"
SERVED = "int8-fast"
"""What a server takes when nothing is said: the fastest whose answers are as often right as fp32's
(docs/engines.md). What measures or shows one answer takes the reproducible `DEFAULT`."""


def precision_named(name: str | None) -> Precision:
    """The table's row, the default for None; NevaError names the rows that there are."""
    chosen = DEFAULT if name is None else name
    if chosen not in PRECISIONS:
        raise NevaError(
            f"the openvino engine has no precision {chosen!r}; choose {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[chosen]


TORCH_TYPES: Mapping[str, str] = {
    "fp32": "float32",
    "float32": "float32",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
}
"""The torch engine's precisions by name, as torch's own names of types."""


def torch_type(name: str | None) -> str:
    """torch's name of the type, float32 for None; NevaError names the choices that there are."""
    chosen = "fp32" if name is None else name
    if chosen not in TORCH_TYPES:
        raise NevaError(
            f"the torch engine has no precision {chosen!r}; choose {', '.join(TORCH_TYPES)}"
        )
    return TORCH_TYPES[chosen]
