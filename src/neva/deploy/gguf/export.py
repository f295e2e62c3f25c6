"""A checkpoint for llama.cpp's server: the language model's GGUF file, the mmproj, and a page.

llama.cpp's own converter is in no package, so the files are written here with its `gguf` package.
What llama.cpp would compute otherwise is refused with a sentence before anything is written; what
it does otherwise with pictures and prompts is told in the README beside the files.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter

from neva.deploy.gguf import gpt
from neva.deploy.gguf import language as llama
from neva.deploy.gguf.chat import gguf_chat_template
from neva.deploy.gguf.file import Part, check_kind, new_file, write_parts
from neva.deploy.gguf.page import context, page
from neva.deploy.gguf.tokenizer import add_tokenizer
from neva.deploy.gguf.vision import ClassToken, check_vision, write_vision
from neva.errors import CheckpointError
from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import check_free, written_aside
from neva.model.reading import CONFIG
from neva.model.shapes import text_config

Config = Mapping[str, Any]
PAGE = "README.md"


@dataclass(frozen=True)
class Language:
    """How a family of language models is written; `name` is llama.cpp's."""

    name: str
    describe: Callable[[GGUFWriter, Config], None]
    parts: Callable[[Config, Config, llama.Tensors], Iterator[Part]]


LANGUAGES: Mapping[str, Language] = {
    "gpt2": Language("gpt2", gpt.describe_gpt2, gpt.gpt2_parts),
    "gpt_neox": Language("gptneox", gpt.describe_gpt_neox, gpt.gpt_neox_parts),
    **{
        family: Language(name, llama.describe, llama.language_parts)
        for family, name in llama.ARCHITECTURES.items()
    },
}


def file_names(source: Checkpoint, kind: str) -> tuple[str, str]:
    """Names of the language model's file and of the mmproj, of the checkpoint's folder's name."""
    name = source.path.resolve().name
    return f"{name}-{kind}.gguf", f"{name}-mmproj-{vision_kind(kind)}.gguf"


def vision_kind(kind: str) -> str:
    """How the tower and the projector are stored: float16, which costs nothing that shows."""
    return "f32" if kind == "f32" else "f16"


def write_gguf(
    source: Checkpoint, out: Path, kind: str = "q8_0", class_token: ClassToken = "last"
) -> None:
    """Write both files and README.md into the new folder `out`, all or nothing; needs no torch.

    `kind` is f32, f16, bf16 or q8_0 (`file.KINDS`), `class_token` is for the llama.cpp that is
    to read it (see vision.py). CheckpointError for what llama.cpp would not compute as we do.
    """
    check_kind(kind)
    check_free(out)
    family = text_config(source.config)["model_type"]
    if family not in LANGUAGES:
        raise CheckpointError(
            f"{source.path / CONFIG}: a {family} language model cannot be exported for llama.cpp; "
            f"{', '.join(sorted(LANGUAGES))} can."
        )
    check_vision(source)
    words, eyes = file_names(source, kind)
    with written_aside(out) as folder:
        _write_language(source, LANGUAGES[family], folder / words, kind)
        write_vision(source, folder / eyes, vision_kind(kind), class_token)
        text = page(source, (words, eyes), class_token)
        (folder / PAGE).write_text(text, encoding="utf-8")


def _write_language(source: Checkpoint, language: Language, file: Path, kind: str) -> None:
    text, tensors = text_config(source.config), read_tensors(source)
    parts = list(language.parts(text, source.config, tensors))
    rows = next(part.shape[0] for part in parts if part.name == "token_embd.weight")
    writer = new_file(file, language.name, source.path.resolve().name, kind)
    language.describe(writer, text)
    writer.add_context_length(context(source))
    writer.add_vocab_size(rows)
    add_tokenizer(writer, source, rows)
    writer.add_chat_template(gguf_chat_template(source))
    write_parts(writer, parts, kind, source.path)
