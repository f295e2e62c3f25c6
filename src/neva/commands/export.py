"""`neva export`: write a checkpoint in another format."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from neva.commands.ending import cleaned_up
from neva.commands.terms import with_terms
from neva.engine import ENGINES
from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.files import check_free, made_folder
from neva.prompts import TEMPLATES

FORMATS = ("hf", "gguf", "triton", "trtllm")
KINDS = ("q8_0", "f16", "bf16", "f32")
TOKENS = ("last", "first")

CHECKPOINT = typer.Argument(help="A LLaVA checkpoint directory; any naming of its tensors.")
FORMAT = typer.Argument(help=f"One of {', '.join(FORMATS)}; what each is, stands above.")
OUT = typer.Option("--output", "-o", help="Where to write; must not exist yet.")
ADAPTER = typer.Option("--adapter", help="A LoRA adapter, trained from it, to merge in.")
TEMPLATE = typer.Option(
    "--template",
    help=f"Prompt template of a checkpoint that has no neva.json; the result has one. One of "
    f"{', '.join(TEMPLATES)}.",
)
WEIGHTS = typer.Option(
    "--weights",
    help=f"gguf: how the LM's weights are written, one of {', '.join(KINDS)}. "
    f"\\[default: {KINDS[0]}]",
    show_default=False,
)
CLASS_TOKEN = typer.Option(
    "--class-token",
    help="gguf: where the llama.cpp that is to read it puts CLIP's class token, last or first; the "
    "README.md of the result tells. \\[default: last]",
    show_default=False,
)
ENGINE = typer.Option(
    "--engine",
    help=f"triton: what answers, one of {', '.join(ENGINES)}. \\[default: {ENGINES[0]}]",
    show_default=False,
)
PRECISION = typer.Option(
    "--precision", help="triton: the engine's precision, as neva serve has it.", show_default=False
)


def export(
    checkpoint: Annotated[Path, CHECKPOINT],
    format: Annotated[str, FORMAT],
    output: Annotated[Path, OUT],
    adapter: Annotated[Path | None, ADAPTER] = None,
    template: Annotated[str | None, TEMPLATE] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    class_token: Annotated[str | None, CLASS_TOKEN] = None,
    engine: Annotated[str | None, ENGINE] = None,
    precision: Annotated[str | None, PRECISION] = None,
) -> None:
    """Write a checkpoint in another format, all or nothing.

    hf: the same weights under the names that transformers 4.57 to 5.23 and vLLM load, in one file
    or shards, with neva.json. It mends checkpoints that a newer transformers saved under names that
    older ones fill with random numbers.

    gguf: two files for llama.cpp's server, the LM and the vision tower with the projector.

    triton: a model repository for NVIDIA's Triton, whose python backend runs an engine of ours.

    trtllm: the checkpoint with a plugin for TensorRT-LLM's PyTorch backend, which has no LLaVA 1.5.

    With --adapter the result has the adapter merged in, which needs torch. Each result but hf's
    has a README.md that tells how it is started; more in docs/deploy.md.

    Example: neva export llava-1.5-7b-hf hf -o model
    """
    given = Given(weights, class_token, engine, precision)
    _check(format, given)
    check_free(output)
    source = with_terms(Checkpoint.open(checkpoint, template))
    with cleaned_up():
        if format == "hf":
            _write_hf(source, adapter, output)
        else:
            with _merged(source, adapter, output) as whole:
                _write(whole, format, output, given)
    sys.stdout.write(f"{output}\n")


@dataclass(frozen=True)
class Given:
    """Options of one format each."""

    weights: str | None
    class_token: str | None
    engine: str | None
    precision: str | None


def _check(format: str, given: Given) -> None:
    """Refuse what there is not, and options that would have no effect."""
    if format not in FORMATS:
        raise CheckpointError(
            f"There is no export format {format!r}; choose one of: {', '.join(FORMATS)}."
        )
    if format != "gguf" and (given.weights is not None or given.class_token is not None):
        raise typer.BadParameter("--weights and --class-token are options of the format gguf")
    if given.weights not in (None, *KINDS):
        raise typer.BadParameter(f"--weights is one of {', '.join(KINDS)}")
    if given.class_token not in (None, *TOKENS):
        raise typer.BadParameter(f"--class-token is one of {', '.join(TOKENS)}")
    if format != "triton" and (given.engine is not None or given.precision is not None):
        raise typer.BadParameter("--engine and --precision are options of the format triton")


def _write_hf(source: Checkpoint, adapter: Path | None, output: Path) -> None:
    if adapter is None:
        from neva.model.rewrite import rewrite

        rewrite(source, output)
    else:
        from neva.model.merge import merge_adapter  # torch is imported only now

        merge_adapter(source, adapter, output)


@contextmanager
def _merged(source: Checkpoint, adapter: Path | None, output: Path) -> Iterator[Checkpoint]:
    """The checkpoint, or one with the adapter in it that is gone when the block ends."""
    if adapter is None:
        yield source
        return
    place, prefix = output.resolve(), f".{output.resolve().name}-merged-"
    name = source.path.resolve().name  # files are named by it; the path may be `.` or `..`
    with (
        made_folder(place.parent),
        tempfile.TemporaryDirectory(prefix=prefix, dir=place.parent) as folder,
    ):
        _write_hf(source, adapter, Path(folder) / name)
        yield Checkpoint.open(Path(folder) / name)


def _write(source: Checkpoint, format: str, output: Path, given: Given) -> None:
    """Another server's format; each is imported only where it is asked for."""
    if format == "gguf":
        from neva.deploy.gguf.export import write_gguf

        first = given.class_token == "first"
        write_gguf(source, output, given.weights or KINDS[0], "first" if first else "last")
    elif format == "triton":
        from neva.deploy.triton.repository import write_triton

        write_triton(source, output, given.engine or ENGINES[0], given.precision)
    else:
        from neva.deploy.trtllm.export import write_trtllm

        write_trtllm(source, output)
