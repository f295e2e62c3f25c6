"""Other versions of transformers load what we write: every tensor found, the same logits and ids.

Each version runs in an environment of its own (minutes: `pytest -m versions`). The quick guard of
the names on disk is in test_compose.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from neva.model import Checkpoint
from neva.model.rewrite import rewrite

VERSIONS = ("4.57.6", "5.5.4", "5.23.0")

READER = """
import json, sys
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

room = sys.argv[1]
logits, reports = {}, {}
for family, folder in json.load(open(f"{room}/checkpoints.json")).items():
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    reports[family] = [str(key) for kind in report if kind.endswith("keys") for key in report[kind]]
    processor = AutoProcessor.from_pretrained(folder)
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}
    text = processor.apply_chat_template([turn], add_generation_prompt=True)
    inputs = processor(images=Image.open(f"{room}/image.png"), text=text, return_tensors="pt")
    with torch.no_grad():
        logits[family] = model(**inputs).logits
        logits[family + " ids"] = inputs["input_ids"]
save_file(logits, f"{room}/found.safetensors")
json.dump(reports, open(f"{room}/reports.json", "w"))
"""


def mended(checkpoint: Checkpoint, folder: Path) -> Path:
    """What this transformers saves, exported: forms that older ones do not know are mended."""
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint.path)
    model.save_pretrained(folder / "resaved")
    AutoProcessor.from_pretrained(checkpoint.path).save_pretrained(folder / "resaved")
    return rewrite(Checkpoint.open(folder / "resaved"), folder / "mended").path


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, composed: dict[str, Checkpoint]) -> Path:
    """What the reader needs, and the logits of the version that wrote the checkpoints."""
    folder = tmp_path_factory.mktemp("versions")
    places = {family: str(checkpoint.path) for family, checkpoint in composed.items()}
    places["mended"] = str(mended(composed["llama"], folder))
    (folder / "checkpoints.json").write_text(json.dumps(places))
    (folder / "reader.py").write_text(READER)
    noise = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(noise, "RGB").save(folder / "image.png")
    subprocess.run([sys.executable, folder / "reader.py", folder], check=True)
    (folder / "found.safetensors").rename(folder / "expected.safetensors")
    return folder


def environment(folder: Path, version: str) -> Path:
    """A virtual environment with torch and this transformers; returns its Python.

    NEVA_VERSIONS_ENVS may name a folder of environments made before, by version.
    """
    made = Path(os.environ.get("NEVA_VERSIONS_ENVS", folder)) / version
    python = made / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", made], check=True)
        for package in (f"torch=={torch.__version__.split('+')[0]}", f"transformers=={version}"):
            install = [python, "-m", "pip", "install", "-q", package, "pillow", "jinja2"]
            subprocess.run(install, check=True)
    return python


@pytest.mark.versions
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_logits_in_other_versions(version: str, room: Path, tmp_path: Path) -> None:
    python = environment(tmp_path, version)
    subprocess.run([python, room / "reader.py", room], check=True, env=clean())
    reports = json.loads((room / "reports.json").read_text())
    assert len(reports) == 7 and all(keys == [] for keys in reports.values()), reports
    expected, found = (load_file(room / f"{name}.safetensors") for name in ("expected", "found"))
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-4, msg=name)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
