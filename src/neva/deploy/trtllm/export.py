"""A checkpoint and a plugin for TensorRT-LLM's PyTorch backend, which does not know LLaVA 1.5.

The plugin is `plugin`, copied as it is: nothing of neva has to be installed beside
TensorRT-LLM. It was never run with TensorRT-LLM or on a GPU; the result's README.md says so.
"""

import json
from importlib.resources import files
from pathlib import Path

from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint
from neva.model.files import write_json, written_aside
from neva.model.reading import CONFIG, read_json
from neva.model.rewrite import rewrite
from neva.model.shapes import text_config

FAMILIES = ("llama", "mistral", "nemotron", "qwen2")
"""Language models that TensorRT-LLM's PyTorch backend has and that we write."""
ARCHITECTURE = "LlavaForConditionalGeneration"
PLUGIN = "neva_trtllm"
"""The package's folder, and so its name: workers import it by that, whatever else is installed."""
SERVE = f"""\
#!/bin/sh
# Serve the model beside this script; options that follow are trtllm-serve's (--tp_size 2).
here=$(cd "$(dirname "$0")" && pwd)
exec trtllm-serve "$here/model" --custom_module_dirs "$here/{PLUGIN}" \\
  --extra_llm_api_options "$here/config.yaml" --host 127.0.0.1 --port 8001 "$@"
"""
MISTRAL_WINDOW = 4096  # MistralConfig's own, where config.json says nothing


def write_trtllm(source: Checkpoint, out: Path) -> None:
    """Write `out`: model/, the plugin, config.yaml, serve.sh and README.md; all or nothing.

    CheckpointError for a language model that TensorRT-LLM's PyTorch backend has not.
    """
    family = text_config(source.config)["model_type"]
    if family not in FAMILIES:
        raise CheckpointError(
            f"{source.path}: TensorRT-LLM's PyTorch backend has no {family}; export a checkpoint "
            f"whose language model is one of: {', '.join(FAMILIES)}."
        )
    image_token = source.tokenizer.id_to_token(source.image_token_id)
    if image_token is None:
        raise CheckpointError(
            f"{source.path}: its tokenizer has no token {source.image_token_id}, which {CONFIG} "
            "says is the image's; the two files do not belong together."
        )
    with written_aside(out) as folder:
        rewrite(source, folder / "model")
        config = folder / "model" / CONFIG
        write_json(config, {**read_json(config), "architectures": [ARCHITECTURE]})
        _write_plugin(folder / PLUGIN, image_token)
        (folder / "config.yaml").write_text(settings(source), encoding="utf-8")
        (folder / "serve.sh").write_text(SERVE, encoding="utf-8")
        told = files(__package__).joinpath("readme.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(told, encoding="utf-8")


def settings(source: Checkpoint) -> str:
    """`config.yaml` for trtllm-serve: how long a sequence may be, and no reuse of prefixes.

    No sequence is longer than a sliding window, which TensorRT-LLM's models of these families do
    not have: up to there the window makes no difference.
    """
    length = min(source.context, window(source) or source.context)
    return (
        "# Read by trtllm-serve (--extra_llm_api_options).\n"
        f"max_seq_len: {length}\n"
        "kv_cache_config:\n"
        "  enable_block_reuse: false      # not tried with pictures\n"
        "  free_gpu_memory_fraction: 0.8  # CLIP needs some, too\n"
    )


def window(source: Checkpoint) -> int | None:
    """How far back the language model's attention reaches, None for all of the context."""
    text = source.config.get("text_config") or {}
    family = text.get("model_type")
    if family == "mistral":
        found = text.get("sliding_window", MISTRAL_WINDOW)
    else:
        found = text.get("sliding_window") if text.get("use_sliding_window") else None
    return None if found is None else int(found)


def _write_plugin(folder: Path, image_token: str) -> None:
    """Copy the package, with the one thing that it must know of the checkpoint on import."""
    folder.mkdir()
    for part in files(__package__).joinpath("plugin").iterdir():
        if part.name.endswith(".py"):
            (folder / part.name).write_bytes(part.read_bytes())
    text = json.dumps({"image_token": image_token}, ensure_ascii=False)
    (folder / "settings.json").write_text(text + "\n", encoding="utf-8")
