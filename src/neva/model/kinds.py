"""The words in which a checkpoint to be made is described; torch-free, for the command line."""

from typing import Literal

ProjectorKind = Literal["mlp2x_gelu", "linear"]
DType = Literal["bfloat16", "float32"]
