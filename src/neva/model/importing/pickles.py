"""Weights that torch saved, without ever running what a pickle may hold.

The one place where neva reads them: `torch.load` with `weights_only`, whose own reader knows
tensors and plain containers and nothing else. What asks for anything more is refused.
"""

import io
import re
import textwrap
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neva.errors import CheckpointError
from neva.model.importing.raw import Raw, held

STATE = "_extra_state"
"""End of the names under which Transformer Engine keeps its own notes: bytes, no weights."""


def read_pickle(file: Path, shown: str = "") -> dict[str, Raw]:
    """The tensors of a state dict by their names, mapped from the file where it allows that.

    `shown` is what messages call the file, if not its path. CheckpointError for a file that is
    damaged, compressed, or holds anything but tensors.
    """
    shown = shown or str(file)
    zipped = _is_plain_zip(file, shown)
    said: list[warnings.WarningMessage]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with torch.serialization.safe_globals([io.BytesIO]):  # bytes in memory, see STATE
                found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
        except Exception as error:  # a broken pickle raises whatever it likes
            told = " ".join(str(one.message) for one in said)
            raise CheckpointError(f"{shown}: {_reason(error, told)}") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{shown}: it holds no tensors by name; give a file of weights.")
    return {
        str(name): _checked(shown, name, value)
        for name, value in found.items()
        if not str(name).endswith(STATE)
    }


def _is_plain_zip(file: Path, shown: str) -> bool:
    """Whether it is torch's zip of today, not the form before 1.6; refuses a damaged one."""
    if not file.is_file():
        raise CheckpointError(f"{shown}: there is no such file; the checkpoint is incomplete.")
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            _check_zip(archive, file.stat().st_size, shown)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{shown}: a damaged archive ({error}); copy it again.") from error
    return True


def _check_zip(archive: zipfile.ZipFile, size: int, shown: str) -> None:
    """An error for a program, for compressed weights, and for other bytes than were written."""
    members = archive.infolist()
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise CheckpointError(
            f"{shown}: a TorchScript program, no file of weights; get the weights as safetensors."
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(
            f"{shown}: its contents are compressed, which torch never does; neva does not read it."
        )
    if sum(member.file_size for member in members) > size:
        raise zipfile.BadZipFile("its members lie over each other")
    summed = any(member.CRC for member in members)  # torch can be told to write no sums
    if summed and (wrong := archive.testzip()):
        raise zipfile.BadZipFile(f"{wrong} is not what was written")


def _reason(error: Exception, told: str) -> str:
    """Why torch refused it, in one sentence; `told` are its warnings."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it asks for {found[1]}, and weights need no such thing: it is a pickle that could "
            "run code, and neva reads only tensors; get the weights as safetensors."
        )
    found = re.search(r"pickle protocol (\d+)", told)
    if found and int(found[1]) > 3:
        return (
            f"it is a pickle of protocol {found[1]}, which torch's safe reader does not read, so "
            "that nothing says what is in it; where you trust its makers, load it with torch and "
            "save it again by torch.save without pickle_protocol, else get safetensors."
        )
    if text.startswith("Cannot use"):
        return (
            "it is of a form that torch's safe reader does not read (an archive of torch before "
            "0.4); get the weights as safetensors."
        )
    if text.startswith("Weights only load failed"):
        inner = re.search(r"WeightsUnpickler error:\s*([^\n]+)", text)
        detail = f" ({inner[1].strip().rstrip('.')})" if inner else ""
        return (
            f"it cannot be read as torch's weights{detail}: it is damaged, or holds more than "
            "tensors, and neva reads only those; get the weights as safetensors."
        )
    line = textwrap.shorten(text.strip().split("\n")[0], 120) or type(error).__name__
    return f"it cannot be read as torch's weights ({line}); copy it again."


def _checked(file: str, name: Any, value: Any) -> Raw:
    """A plain tensor of numbers that are all in the file; anything else is a CheckpointError."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise CheckpointError(
            f"{file}: {name!r} is a {type(value).__name__}, not a tensor; it is no file of weights."
        )
    plain = value.layout is torch.strided and not value.is_quantized and not value.is_complex()
    if not plain or value.device.type != "cpu":
        raise CheckpointError(f"{file}: {name} is no plain tensor; get the weights unquantised.")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(f"{file}: {name} is larger than its data; copy it again.")
    return held(value.detach(), f"{file}: {name}")
