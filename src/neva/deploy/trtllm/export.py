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
from neva.model.reading import CHAT_TEMPLATE, CONFIG, TOKENIZER_CONFIG, read_json
from neva.model.rewrite import rewrite
from neva.model.shapes import text_config
from neva.model.window import sliding_window
from neva.prompts import jinja_template

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
        _write_model(source, folder / "model", image_token)
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
    length = min(source.context, sliding_window(source.config) or source.context)
    return (
        "# Read by trtllm-serve (--extra_llm_api_options).\n"
        f"max_seq_len: {length}\n"
        "kv_cache_config:\n"
        "  enable_block_reuse: false      # not tried with pictures\n"
        "  free_gpu_memory_fraction: 0.8  # CLIP needs some, too\n"
    )


def _write_model(source: Checkpoint, folder: Path, image_token: str) -> None:
    """The checkpoint, with what servers read beside it: neva itself needs no more than neva.json.

    Without a chat template they answer no conversation, and transformers 4.57 takes a tokenizer
    without a class for Llama's. An older chat_template.json would be read before ours.
    """
    rewrite(source, folder)
    write_json(folder / CONFIG, {**read_json(folder / CONFIG), "architectures": [ARCHITECTURE]})
    if not (folder / CHAT_TEMPLATE).is_file():
        chat = jinja_template(source.template, source.tokenizer, image_token)
        (folder / CHAT_TEMPLATE).write_text(chat, encoding="utf-8")
        (folder / "chat_template.json").unlink(missing_ok=True)
    if not (folder / TOKENIZER_CONFIG).is_file():
        write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast"})


def _write_plugin(folder: Path, image_token: str) -> None:
    """Copy the package, with the one thing that it must know of the checkpoint on import."""
    folder.mkdir()
    for part in files(__package__).joinpath("plugin").iterdir():
        if part.name.endswith(".py"):
            (folder / part.name).write_bytes(part.read_bytes())
    text = json.dumps({"image_token": image_token}, ensure_ascii=False)
    (folder / "settings.json").write_text(text + "\n", encoding="utf-8")
