"""A model repository for NVIDIA's Triton: `neva`, which streams, and `neva_whole`, which does not.

Triton's python backend imports `neva` from the environment that is first in PATH (README.md of
the result), so what is written here are settings and two lines of Python for each model.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from neva.deploy.triton.ask import INPUTS, OUTPUTS, Tensor
from neva.engine import check_engine
from neva.engine.precision import SERVED
from neva.model.checkpoint import Checkpoint
from neva.model.files import written_aside
from neva.model.rewrite import rewrite

MODELS = {"neva": "backend", "neva_whole": "whole"}
WHOLE_INSTANCES = 8
PLACES = "../../checkpoint"
"""From a model's folder to the checkpoint, which lies beside the repository."""


def write_triton(
    source: Checkpoint, out: Path, engine: str = "openvino", precision: str | None = None
) -> None:
    """Write `out`: README.md, checkpoint/ and models/, Triton's model repository; all or nothing.

    Without `precision` openvino's is the one of `neva serve`. CheckpointError or NevaError for an
    engine that cannot run the checkpoint.
    """
    if engine == "openvino":
        precision = precision or SERVED
    check_engine(engine, precision, source)
    settings = {"checkpoint": PLACES, "engine": engine, "precision": precision or ""}
    with written_aside(out) as folder:
        rewrite(source, folder / "checkpoint")
        for name, module in MODELS.items():
            version = folder / "models" / name / "1"
            version.mkdir(parents=True)
            program = f"from {__package__}.{module} import TritonPythonModel\n\n"
            program += '__all__ = ["TritonPythonModel"]\n'
            (version / "model.py").write_text(program, encoding="utf-8")
            text = config(name, settings if name == "neva" else {}, name == "neva")
            (version.parent / "config.pbtxt").write_text(text, encoding="utf-8")
        told = files(__package__).joinpath("readme.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(told, encoding="utf-8")


def config(name: str, settings: Mapping[str, str], streams: bool) -> str:
    """`config.pbtxt`. The engine batches by itself, so Triton does not (`max_batch_size` 0)."""
    lines = [f'name: "{name}"', 'backend: "python"', "max_batch_size: 0"]
    lines += [f"model_transaction_policy {{ decoupled: {str(streams).lower()} }}"]
    lines += [_tensor("input", one, "optional: true") for one in INPUTS]
    lines += [_tensor("output", one) for one in OUTPUTS]
    # One engine answers all: where it computes is its own affair, not the instance's.
    count = 1 if streams else WHOLE_INSTANCES
    lines.append(f"instance_group [ {{ count: {count} kind: KIND_CPU }} ]")
    for key, value in settings.items():
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}')
    return "\n".join(lines) + "\n"


def _tensor(role: str, one: Tensor, *more: str) -> str:
    dims = "[ -1 ]" if one.many else "[ 1 ]"
    facts = " ".join((f'name: "{one.name}"', f"data_type: TYPE_{one.kind}", f"dims: {dims}", *more))
    return f"{role} [ {{ {facts} }} ]"
