"""What deploy/ tells container runtimes, systemd and Kubernetes is true of the server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openvino
import yaml
from PIL import Image
from starlette.testclient import TestClient

from neva.cli import load
from neva.server.app import create_app
from neva.server.listen import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LIBRARIES = Path(openvino.__file__).parent / "libs"


def container() -> str:
    """The Containerfile with its long lines joined and without its comments."""
    text = (DEPLOY / "Containerfile").read_text()
    return re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))


def unit() -> dict[str, str]:
    lines = (DEPLOY / "neva.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def manifests() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").open())}


def pod() -> Any:
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def commands() -> Iterator[list[str]]:
    """The arguments of `neva serve`, wherever they are told."""
    entry = re.search(r"^ENTRYPOINT (\[.*\])", container(), re.MULTILINE)
    assert entry
    words = yaml.safe_load(entry[1])
    assert words[:2] == ["neva", "serve"]
    yield words[2:] + pod()["containers"][0]["args"]
    yield shlex.split(unit()["ExecStart"])[2:]


def removed() -> list[str]:
    """Patterns of the files that the image leaves out."""
    found = re.search(r"openvino/libs +&& rm (.*)$", container(), re.MULTILINE)
    assert found
    return found[1].split()


def test_the_options_are_the_servers() -> None:
    known = {name for option in load("serve").params for name in option.opts}
    for words in commands():
        assert words and {word for word in words if word.startswith("--")} <= known


def test_the_places_that_are_written_are_those_that_are_given() -> None:
    image, house = container(), pod()
    assert "VOLUME /data" in image and "--data" in next(commands())
    assert {m["mountPath"] for m in house["containers"][0]["volumeMounts"]} == {
        "/data",
        "/tmp",
        "/keys",
    }
    assert f"--uid {house['securityContext']['runAsUser']} " in image
    assert f"USER {house['securityContext']['runAsUser']}\n" in image
    assert "/keys/keys" in next(commands())
    assert unit()["StateDirectory"] in unit()["ExecStart"]


def test_the_probes_paths_answer() -> None:
    def loading() -> Any:
        raise RuntimeError("an engine that never comes")

    with TestClient(create_app(loading)) as client:
        probes = {
            name: probe["httpGet"]["path"]
            for name, probe in pod()["containers"][0].items()
            if name.endswith("Probe")
        }
        assert set(probes) == {"startupProbe", "readinessProbe", "livenessProbe"}
        status = {name: client.get(path).status_code for name, path in probes.items()}
        assert status == {"startupProbe": 503, "readinessProbe": 503, "livenessProbe": 200}
        checked = re.search(r"127\.0\.0\.1:8000(/[a-z0-9/]+)'", container())
        assert checked and client.get(checked[1]).status_code == 200


def test_an_end_leaves_time_to_finish() -> None:
    house = pod()
    pause = int(house["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert house["terminationGracePeriodSeconds"] > pause + DRAIN_SECONDS
    assert int(unit()["TimeoutStopSec"]) > DRAIN_SECONDS


def test_the_base_lm_is_the_one_that_make_installs() -> None:
    (wanted,) = re.findall(r"^BASE_LM := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"--no-deps {wanted} " in container().replace("\n", " \n")
    assert wanted in (DEPLOY / "neva.service").read_text()


ANSWER = """
import sys
from pathlib import Path
from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling, collect
from neva.images import read_image
from neva.model.checkpoint import Checkpoint
from neva.prompts import ask
engine = open_engine(Checkpoint.open(Path(sys.argv[1])), "openvino")
request = Request(ask("What?"), (read_image(Path(sys.argv[2])),), Sampling(max_tokens=4))
text, last = collect(engine.generate([request])[0])
print(last.finish)
print(Path(f"/proc/{engine.pid}/maps").read_text())
engine.close()
"""


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def test_the_engine_answers_without_what_the_image_leaves_out(tiny: Path, tmp_path: Path) -> None:
    patterns = removed()
    for pattern in patterns:
        assert list(LIBRARIES.glob(pattern)), f"{pattern}: OpenVINO has no such file any more"
    left_out = shutil.ignore_patterns(*patterns)
    shutil.copytree(LIBRARIES.parent, tmp_path / "openvino", ignore=left_out, copy_function=linked)
    kept = sum(file.stat().st_size for file in (tmp_path / "openvino" / "libs").iterdir())
    assert kept < 0.6 * sum(file.stat().st_size for file in LIBRARIES.glob("*.*"))
    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, tiny, picture],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    finish, _, opened = done.stdout.partition("\n")
    assert finish in ("length", "stop"), done.stderr
    assert str(tmp_path / "openvino" / "libs" / "libopenvino_intel_cpu_plugin.so") in opened
    assert str(LIBRARIES) not in opened
