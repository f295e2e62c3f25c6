"""The graphs compute what Hugging Face's model computes, from the same files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from tiny_llava import SCALED, SIZE

from neva.engine.graphs import Export, export
from neva.model.checkpoint import Checkpoint

EXACT = {"EXECUTION_MODE_HINT": "ACCURACY"}


def reference(path: Path) -> Any:
    """Hugging Face's own model of the directory, in float32."""
    import torch
    from transformers import LlavaForConditionalGeneration

    model, found = LlavaForConditionalGeneration.from_pretrained(
        path, dtype=torch.float32, output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"]
    return model.eval()


def compiled(file: Path) -> Any:
    return ov.Core().compile_model(file, "CPU", EXACT)


def run_language(made: Export, embeds: np.ndarray, parts: list[int]) -> np.ndarray:
    """Logits (T, V) of embeddings (T, D) fed in consecutive parts through the KV cache."""
    request = compiled(made.folder / "openvino_language_model.xml").create_infer_request()
    logits, start = [], 0
    for length in parts:
        stop = start + length
        outputs = request.infer(
            {
                "inputs_embeds": embeds[None, start:stop],
                "attention_mask": np.ones((1, stop), np.int64),
                "position_ids": np.arange(start, stop)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
        )
        logits.append(outputs["logits"][0].copy())
        start = stop
    return np.concatenate(logits)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"rope_parameters": SCALED, "attention_bias": True, "mlp_bias": True}),
        ("mistral", {}),
        ("qwen2", {}),
    ],
)
def test_logits_equal_hugging_face(
    family: str, changes: dict[str, Any], make_checkpoint: Callable[..., Path]
) -> None:
    import torch

    path = make_checkpoint(family, **changes)
    checkpoint = Checkpoint.open(path)
    made = export(checkpoint, "exact")
    model, rng = reference(path), np.random.default_rng(0)
    pixels = rng.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    image, places = checkpoint.image_token_id, checkpoint.image_tokens
    ids = np.concatenate([rng.integers(3, 250, 60), [image] * places, rng.integers(3, 250, 40)])
    with torch.no_grad():
        expected = (
            model(input_ids=torch.tensor(ids[None]), pixel_values=torch.tensor(pixels))
            .logits[0]
            .numpy()
        )
    embeds = compiled(made.text)(ids[None])[0][0].copy()
    embeds[60 : 60 + places] = compiled(made.vision)(pixels)[0][0]
    logits = run_language(made, embeds, [30, 70, 16])
    allowed = np.arange(logits.shape[1]) != image
    assert logits.shape[1] == checkpoint.tokenizer.get_vocab_size() < expected.shape[1]
    assert np.all(np.isneginf(logits[:, image]))
    np.testing.assert_allclose(
        logits[:, allowed], expected[:, : logits.shape[1]][:, allowed], rtol=1e-4, atol=2e-4
    )
