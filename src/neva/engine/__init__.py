"""Engines answer requests; `open_engine` gives one for a checkpoint. Imports nothing heavy.

`openvino` is the default on CPU, `torch` runs any checkpoint on any device and is the reference.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from neva.errors import NevaError

if TYPE_CHECKING:
    from neva.engine.protocol import Engine
    from neva.model.checkpoint import Checkpoint

ENGINES = ("openvino", "torch")


def check_engine(
    name: str, precision: str | None = None, checkpoint: "Checkpoint | None" = None
) -> None:
    """NevaError for a choice that cannot work, in milliseconds: before a server says it is there.

    ModuleNotFoundError where torch is chosen and not installed.
    """
    from neva.engine.precision import precision_named, torch_type

    if name == "openvino":
        precision_named(precision)
        if checkpoint is not None:
            from neva.engine.graphs.able import check_config

            check_config(checkpoint.config)
    elif name == "torch":
        torch_type(precision)
        for module in ("torch", "transformers"):
            if find_spec(module) is None:
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    else:
        raise NevaError(f"there is no engine {name!r}; choose {', '.join(ENGINES)}")


IMAGE_CACHE_MIB = 320
"""For pictures that were asked about: a fifth as pixels, the rest as embeddings."""


def open_engine(
    checkpoint: "Checkpoint | Path",
    name: str = "openvino",
    precision: str | None = None,
    *,
    served_name: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    cache_mib: int | None = None,
    image_cache_mib: int = IMAGE_CACHE_MIB,
    wait: bool = True,
) -> "Engine":
    """Load a checkpoint into the engine called `name`; close the engine when done.

    `precision`: openvino's are in precision.py, int8 the default; torch's float32 (default),
    bfloat16, float16. `served_name` is what `/v1/models` shows. `device` is torch's; `threads`,
    `cache_mib` (KV cache) and `image_cache_mib` are openvino's. With `wait` False the first request
    waits for loading.
    Raises NevaError for anything that cannot work.
    """
    from neva.model.checkpoint import Checkpoint

    opened = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(checkpoint)
    check_engine(name, precision, opened)
    if name == "openvino":
        from neva.engine.openvino_engine import OpenVinoEngine, OpenVinoOptions

        options = OpenVinoOptions(cache_mib, image_cache_mib, threads)
        return OpenVinoEngine(opened, precision, options, served_name, wait)
    from neva.engine.torch_engine import TorchEngine

    return TorchEngine(opened, precision, device, served_name)
