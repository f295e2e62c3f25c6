"""The word embeddings: a graph, which genai looks its own tokens up in, and rows, for prompts.

A prompt's rows are gathered by numpy from the graph's mapped constants: the same arithmetic as the
graph's, and so the same bits, without a compiled copy of the table (28 MB and 60 ms for SmolLM2)
and without waking OpenVINO's threads for what one thread does in a moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from openvino import Core, Model, Type, opset15

from neva.engine.graphs.nodes import Array, Node, eight, matrix, model, parameter, scalar
from neva.engine.precision import Weights
from neva.model.keys import BODY


def text_embeddings(tensors: Mapping[str, Array], weights: Weights) -> Model:
    """input (B, T) ids -> inputs_embeds (B, T, D)."""
    ids = parameter("input", [-1, -1], Type.i64)
    table = matrix(tensors[f"{BODY}embed_tokens.weight"], eight(weights))
    return model("text", "inputs_embeds", opset15.gather(table, ids, scalar(0)), [ids], [])


@dataclass(frozen=True)
class WordTable:
    """`codes` (V, D) in the type on disk; int8 ones stand for (codes - zero) * scale, per row."""

    codes: Array
    zero: Array | None = None
    scale: Array | None = None

    @classmethod
    def read(cls, graph: Path) -> "WordTable":
        """What `text_embeddings` put into the file; of it only the rows asked for are read."""
        nodes = Core().read_model(graph).get_ordered_ops()
        return cls(*(_values(node) for node in nodes if _is_matrix(node)))

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(L,) ids -> (L, D)."""
        rows = self.codes[ids].astype(np.float32)
        if self.zero is not None and self.scale is not None:
            rows -= self.zero[ids].astype(np.float32)
            rows *= self.scale[ids]
        return rows


def _is_matrix(node: Node) -> bool:
    return node.get_type_name() == "Constant" and len(node.shape) == 2


def _values(constant: Node) -> Array:
    """A view of the mapped file, which lives as long as the view."""
    values: Array = constant.data  # bfloat16 comes as bits that are called float16
    if constant.get_element_type() == Type.bf16:
        return values.view(ml_dtypes.bfloat16)
    return values
