"""The words in which a checkpoint to be made is described; torch-free, for the command line."""

from collections.abc import Mapping
from typing import Literal

ProjectorKind = Literal["mlp2x_gelu", "linear"]
DType = Literal["bfloat16", "float32"]

ACTIVATIONS: Mapping[ProjectorKind, str] = {"mlp2x_gelu": "gelu", "linear": "linear"}
"""What stands between the two layers of Hugging Face's projector class, see `projector`."""
