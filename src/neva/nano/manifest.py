"""What the committed parts of the default model are: `weights/manifest.json`.

`weights/` holds this manifest, the trained tensors (each of `TENSORS` as `neva.nano.narrow` makes
them) and `checkpoint/` with the small files of the checkpoint as they are. What a version leaves as
it was is in files of its own where it can be (an adapter's A, its B by the LM's parts), since a
file that does not change costs the repository's history nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from neva.errors import CheckpointError
from neva.model.weights import sha256_file

WEIGHTS = Path(__file__).parent / "weights"
FILE = "manifest.json"
ADAPTER = ("adapter_a", "adapter_attention_b", "adapter_mlp_b")
TENSORS = tuple(f"{part}.safetensors" for part in ("vision_tower", "projector", *ADAPTER))
SMALL = "checkpoint"
FORMAT = 3


@dataclass(frozen=True)
class Manifest:
    """`files`: path within `weights/` -> sha256. `assembled`: `sha256_tensors` of the whole.

    `base_sha256` is the GGUF file's, `scale` is the adapter's alpha / rank.
    """

    name: str
    base_package: str
    base_sha256: str
    scale: float
    files: Mapping[str, str]
    assembled: str
    tokenizer: str
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder."""
        text = json.dumps(asdict(self), indent=2)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path = WEIGHTS) -> Manifest:
    """Read `manifest.json`; CheckpointError if it is missing or broken."""
    file = folder / FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise ValueError(f"its format is {record.get('format')!r}, not {FORMAT}")
        return Manifest(**record)
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: the default model's trained parts are missing: install neva-vlm again, "
            "or give a model's directory"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error}): install neva-vlm again"
        ) from error


def check_parts(folder: Path, manifest: Manifest) -> None:
    """CheckpointError unless every part is there, bit for bit."""
    for name, expected in manifest.files.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != expected:
            raise CheckpointError(
                f"{folder / name}: missing or damaged: install neva-vlm again "
                "(from git: `git checkout` the file)"
            )
