"""A prompt's word embeddings: the same bits as the graph's, where genai looks its own tokens up."""

import gc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from openvino import Core, save_model

from neva.engine.graphs.words import WordTable, text_embeddings
from neva.engine.precision import Weights
from neva.model.keys import BODY

ROWS, WIDTH = 300, 64


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("weights", ["exact", "int8", "int4"])
def test_rows_are_the_graphs(tmp_path: Path, kind: type, weights: Weights) -> None:
    table = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(kind)
    graph = tmp_path / "text.xml"
    made = text_embeddings({f"{BODY}embed_tokens.weight": table}, weights)
    save_model(made, graph, compress_to_fp16=False)
    words = WordTable.read(graph)
    gc.collect()  # the file stays mapped as long as the table is there, and no longer
    mapped = str(graph.with_suffix(".bin"))
    assert mapped in Path("/proc/self/maps").read_text()
    ids = np.array([0, 7, 7, ROWS - 1, 3], dtype=np.int64)
    accurate = Core().compile_model(graph, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})
    rows = words.rows(ids)
    assert rows.dtype == np.float32 and rows.shape == (5, WIDTH)
    assert rows.tobytes() == np.array(accurate(ids[None])[0][0]).tobytes()
    assert np.allclose(rows, table[ids].astype(np.float32), atol=0.02)
    del words, accurate
    gc.collect()
    assert mapped not in Path("/proc/self/maps").read_text()
