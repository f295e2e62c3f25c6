"""The graphs compute what Hugging Face's model computes, from the same files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from tiny_llava import SCALED, SIZE

from neva.engine.graphs import Export, export, find_export
from neva.engine.graphs.nodes import quantise
from neva.errors import CheckpointError
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
        (
            "llama",
            {
                "llava": {
                    "vision_feature_layer": [-3, -1],
                    "vision_feature_select_strategy": "full",
                    "projector_hidden_act": "linear",
                    "multimodal_projector_bias": False,
                }
            },
        ),
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
    logits = run_language(made, embeds, [30, 70, places])
    allowed = np.arange(logits.shape[1]) != image
    assert logits.shape[1] == checkpoint.tokenizer.get_vocab_size() < expected.shape[1]
    assert np.all(np.isneginf(logits[:, image]))
    np.testing.assert_allclose(
        logits[:, allowed], expected[:, : logits.shape[1]][:, allowed], rtol=1e-4, atol=2e-4
    )


def test_graphs_are_kept_until_something_changes(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(make_checkpoint("llama"), folder, ignore=shutil.ignore_patterns("openvino"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_export(Checkpoint.open(folder), "int8") is None
    first = export(Checkpoint.open(folder), "int8")
    assert first.folder.parent == folder / "openvino"
    assert (
        export(Checkpoint.open(folder), "int8")
        == first
        == find_export(Checkpoint.open(folder), "int8")
    )
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-4096:] = bytes(4096)
    weights.write_bytes(changed)
    second = export(Checkpoint.open(folder), "int8")
    assert second != first
    assert not [p for p in (folder / "openvino").iterdir() if p.name.startswith(".")]
    shutil.rmtree(folder / "openvino")
    (folder / "openvino").write_text("no directory can be here")
    assert export(Checkpoint.open(folder), "int8").folder.is_relative_to(tmp_path / "cache")


def test_int8_is_close_and_keeps_zero() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 100)).astype(np.float32)
    weight[3] = 0
    weight[4] = np.abs(weight[4]) + 1
    weight[:, 7] = 0
    codes, zero, scale = quantise(weight)
    back = (codes.astype(np.float32) - zero) * scale
    assert np.all(back[:, 7] == 0) and np.all(back[3] == 0)
    assert np.all(np.abs(back - weight) <= scale * 0.501)


def test_a_compressed_tower_is_small_and_sees_nearly_the_same(
    make_checkpoint: Callable[..., Path],
) -> None:
    checkpoint = Checkpoint.open(make_checkpoint("llama"))
    pixels = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    exact, *small = (export(checkpoint, weights) for weights in ("exact", "int8", "int4"))
    seen = compiled(exact.vision)(pixels)[0]
    for made in small:  # four bits are the language model's only
        off = np.linalg.norm(compiled(made.vision)(pixels)[0] - seen) / np.linalg.norm(seen)
        assert 0 < off < 0.02
        sizes = [one.vision.with_suffix(".bin").stat().st_size for one in (made, exact)]
        assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {**SCALED, "rope_type": "yarn"}}, "yarn"),
    ],
)
def test_what_has_no_graph_is_refused(
    changes: dict[str, Any], word: str, make_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = Checkpoint.open(make_checkpoint("llama", **changes))
    with pytest.raises(CheckpointError, match=f"{word}.*--engine torch"):
        export(checkpoint, "int8")
    left = checkpoint.path / "openvino"
    assert not left.exists() or not list(left.iterdir())
