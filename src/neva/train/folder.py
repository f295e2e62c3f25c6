"""The run folder: who may write into it, and what stands where.

RUN/recipe.json inputs.json environment.json   what was asked, of what, on what
RUN/metrics.jsonl loss.png summary.json        what happened
RUN/checkpoints/step-00000120/                 to resume from
RUN/report.html probe/ tensorboard/            for people: the whole story, answers, trackers' files
RUN/final/                                     the checkpoint that was made
RUN/best/                                      the one of the lowest validation loss, if another
RUN/adapter/ best-adapter/                     with LoRA: the adapters alone
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import NevaError
from neva.train.durable import flush
from neva.train.recipe import Recipe

_ASIDE = ".writing"
# All that a run killed in its first moment may have left: a folder with no more is free.
_FIRST_FILES = {f"inputs.json{_ASIDE}", "inputs.json", f"recipe.json{_ASIDE}"}

# What may differ between a run and its resumption: nothing here changes the weights.
HARMLESS = frozenset(
    {
        "save_every", "keep_last", "keep_best", "log_every", "workers", "validate_every",
        "probe_every", "track",
    }
)  # fmt: skip
# What says only where the weights lie: sums are rounded in another order, nothing else changes.
PLACEMENT = frozenset({"shard", "tensor_parallel"})


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run; `fresh` where this process made the folder."""

    path: Path
    fresh: bool

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints to resume from are."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def final(self) -> Path:
        """The finished checkpoint."""
        return self.path / "final"

    @property
    def adapter(self) -> Path:
        """The LoRA adapter of a `--lora` run."""
        return self.path / "adapter"

    @property
    def best(self) -> Path:
        """The checkpoint of the lowest validation loss, where that is not `final`."""
        return self.path / "best"

    @property
    def probe(self) -> Path:
        """Questions, thumbnails and answers of the probe."""
        return self.path / "probe"

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write `name`, a JSON file, all or nothing."""
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        aside = self.path / f"{name}{_ASIDE}"
        aside.write_text(text + "\n", encoding="utf-8")
        flush(aside)
        aside.rename(self.path / name)

    def read(self, name: str) -> dict[str, Any] | None:
        """The JSON file `name`, or None where there is none."""
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def clear_outputs(self) -> None:
        """Remove what a kill during the last writing may have left."""
        for name in ("final", "adapter", "best", "best-adapter"):
            for path in (self.path / name, *self.path.glob(f".{name}-*")):
                shutil.rmtree(path, ignore_errors=True)

    def discard(self) -> None:
        """Remove the folder if this process made it: a run that could not begin leaves nothing."""
        if self.fresh:
            shutil.rmtree(self.path, ignore_errors=True)


def check_free(path: Path, resume: bool) -> None:
    """Refuse a folder that holds something else, before any work is done."""
    if path.exists() and not path.is_dir():
        raise NevaError(f"{path} is a file; give -o a folder.")
    taken = path.is_dir() and any(file.name not in _FIRST_FILES for file in path.iterdir())
    if taken and not resume:
        raise NevaError(
            f"{path} is not empty. Add --resume to continue the run in it, or give -o another "
            "folder."
        )
    if taken and not (path / "recipe.json").is_file():
        raise NevaError(f"{path} holds no run (no recipe.json): nothing to resume.")


def claim(path: Path, recipe: Recipe, inputs: Mapping[str, Any]) -> RunFolder:
    """Make the folder, or check that the run in it is the one that is asked for."""
    if not (path / "recipe.json").is_file():
        path.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(path, fresh=True)
        folder.write("inputs.json", inputs)
        folder.write("recipe.json", recipe.to_json())
        return folder
    before, now = recorded_recipe(path).to_json(), recipe.to_json()
    changed = [k for k in now if before[k] != now[k] and k not in HARMLESS | PLACEMENT]
    if changed:
        words = ", ".join(f"{k} was {before[k]!r} and is {now[k]!r}" for k in changed)
        raise NevaError(
            f"{path}: cannot resume with another recipe: {words}. Give the same options as before, "
            "or start a new run in another folder."
        )
    known = json.loads((path / "inputs.json").read_text(encoding="utf-8"))
    for key in ("checkpoint_sha256", "data_sha256"):
        if known.get(key) != inputs.get(key):
            raise NevaError(
                f"{path}: cannot resume: the {key.split('_')[0]} is not the one that the run "
                f"began with ({known.get('checkpoint')}, {known.get('data')})."
            )
    return RunFolder(path, fresh=False)


def recorded_recipe(path: Path) -> Recipe:
    """The recipe of the run in `path`."""
    try:
        return Recipe.from_json(json.loads((path / "recipe.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise NevaError(f"{path / 'recipe.json'}: cannot be read: {error}") from error
