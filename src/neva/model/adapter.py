"""LoRA on the language model, through peft: added in place, merged back, saved apart.

The model stays a LlavaForConditionalGeneration, so the forward, the generator and the saving code
need not know. A saved adapter is a peft directory (`adapter_config.json` and safetensors) that
plain peft loads onto the checkpoint it was trained from, and the projector beside it.
"""

from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration
from transformers.pytorch_utils import Conv1D

from neva.errors import CheckpointError
from neva.model.arrays import as_array, as_tensor
from neva.model.files import write_json, written_aside
from neva.model.keys import PROJECTOR
from neva.model.reading import read_json_if_there
from neva.model.weights import TensorFiles, read_entries, write_tensors

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PROJECTOR_FILE = "projector.safetensors"
BASE_FILE = "base.json"

_NAME = "default"  # peft's own name of the only adapter
_PREFIX = "base_model.model."  # what peft puts before the names of the model it wraps
_BODY = "model.language_model."
_ALL = "all-linear"


@dataclass(frozen=True)
class LoraShape:
    """What an adapter is. `targets` are the LM's layers by their last name, or "all-linear"."""

    rank: int = 128
    alpha: float = 256.0
    dropout: float = 0.0
    targets: tuple[str, ...] = (_ALL,)


def add_lora(model: LlavaForConditionalGeneration, shape: LoraShape) -> dict[str, nn.Parameter]:
    """Put an adapter on the LM's linear layers, in place; returns its parameters, which learn.

    Everything else of the model is frozen by peft: the caller frees the projector again. The
    adapter's parameters are float32. Before training the model's output is unchanged.
    CheckpointError for a target that the LM does not have.
    """
    _inject(model, _config(model, shape))
    return lora_parameters(model)


def lora_parameters(model: LlavaForConditionalGeneration) -> dict[str, nn.Parameter]:
    """The adapter's parameters by their names in the model."""
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


def merge_lora(model: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """Add the adapter to the weights beneath and take it off, in place; returns the model.

    The sum is made in the weights' dtype: merge in float32 and save in bfloat16.
    """
    wrapped = [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, module in wrapped:
        module.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


def save_adapter(model: LlavaForConditionalGeneration, out: Path, base: str | None = None) -> Path:
    """Write adapter and projector to `out`, all or nothing, in their own dtypes.

    `base` is the sha256 of the checkpoint that it was trained from, which it will ask for.
    """
    config: LoraConfig | None = getattr(model, "peft_config", {}).get(_NAME)
    if config is None:
        raise CheckpointError(f"{out}: the model has no adapter to save.")
    state = get_peft_model_state_dict(model, adapter_name=_NAME)
    projector = model.model.multi_modal_projector.state_dict()
    with written_aside(out) as folder:
        config.save_pretrained(str(folder))
        _save(folder, ADAPTER, {_PREFIX + name: tensor for name, tensor in state.items()})
        _save(folder, PROJECTOR_FILE, {PROJECTOR + name: t for name, t in projector.items()})
        if base is not None:
            write_json(folder / BASE_FILE, {"sha256": base})
    return out


def check_base(folder: Path, sha256: str) -> None:
    """CheckpointError if the adapter says that it was trained from other weights than these.

    Many models have layers of the same shapes, and none would notice another's adapter.
    """
    base = read_json_if_there(folder / BASE_FILE).get("sha256", sha256)
    if base != sha256:
        raise CheckpointError(
            f"{folder}: the adapter was trained from weights with the sha256 {base}, and these "
            f"have {sha256}; give the checkpoint that the run began with."
        )


def load_adapter(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Put a saved adapter and its projector on the model that it was trained from, in place."""
    for name in (ADAPTER_CONFIG, ADAPTER, PROJECTOR_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; it is not a saved adapter.")
    _inject(model, LoraConfig.from_pretrained(str(folder)))
    _fill(model, folder)
    projector = {
        name.removeprefix(PROJECTOR): t for name, t in _load(folder / PROJECTOR_FILE).items()
    }
    try:
        model.model.multi_modal_projector.load_state_dict(projector)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: its projector is of another model.") from error


def start_from(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Give the adapter that `add_lora` put on `model` the numbers of a saved one of its shape.

    The projector stays the model's own. CheckpointError where rank, alpha or layers differ.
    """
    for name in (ADAPTER_CONFIG, ADAPTER):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; give a run's adapter folder.")
    mine: LoraConfig = model.peft_config[_NAME]
    saved = LoraConfig.from_pretrained(str(folder))
    if (saved.r, saved.lora_alpha) != (mine.r, mine.lora_alpha):
        raise CheckpointError(
            f"{folder}: its rank is {saved.r} and its alpha {saved.lora_alpha:g}, not the run's "
            f"{mine.r} and {mine.lora_alpha:g}; give the run --lora-rank {saved.r} "
            f"--lora-alpha {saved.lora_alpha:g}."
        )
    _fill(model, folder)


def _fill(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """The saved adapter's numbers into the one in place, which must have the same layers."""
    state = {name.removeprefix(_PREFIX): t for name, t in _load(folder / ADAPTER).items()}
    try:
        report = set_peft_model_state_dict(model, state, adapter_name=_NAME)
    except RuntimeError as error:  # sizes differ: torch lists all of them, the first is enough
        first = next((line for line in str(error).split("\n") if "size mismatch" in line), "")
        raise CheckpointError(
            f"{folder}: the adapter is of another model ({first.strip() or error})."
        ) from error
    lost = [name for name in report.missing_keys if ".lora_" in name]
    if lost or report.unexpected_keys:
        first = (lost + list(report.unexpected_keys))[0]
        raise CheckpointError(f"{folder}: the adapter is of another model ({first}).")


def _config(model: LlavaForConditionalGeneration, shape: LoraShape) -> LoraConfig:
    layers = [
        _BODY + name
        for name, module in model.model.language_model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    known = {name.rpartition(".")[2] for name in layers}
    if shape.targets != (_ALL,):
        unknown = sorted(set(shape.targets) - known)
        if unknown:
            raise CheckpointError(
                f"The language model has no layer {unknown[0]!r} for an adapter; it has "
                f"{', '.join(sorted(known))}, or use {_ALL}."
            )
        layers = [name for name in layers if name.rpartition(".")[2] in shape.targets]
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=layers,
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.model.language_model.modules()),
    )


def _inject(model: LlavaForConditionalGeneration, config: LoraConfig) -> None:
    inject_adapter_in_model(config, model, adapter_name=_NAME)
    model.peft_config = {_NAME: config}
    for parameter in lora_parameters(model).values():
        parameter.data = parameter.data.float()


def _save(folder: Path, name: str, tensors: dict[str, Tensor]) -> None:
    (written,) = write_tensors(folder, {key: as_array(t) for key, t in tensors.items()})
    written.rename(folder / name)


def _load(file: Path) -> dict[str, Tensor]:
    files = TensorFiles({entry.name: entry for entry in read_entries(file)})
    return {name: as_tensor(files[name]) for name in files}
