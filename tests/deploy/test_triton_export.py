"""The model repository for Triton, as files. That a Triton runs it: test_triton_server.py."""

import re
from pathlib import Path

import pytest
from tiny_llava import write_checkpoint
from typer.testing import CliRunner

from neva.cli import app
from neva.deploy.triton.ask import INPUTS, OUTPUTS
from neva.deploy.triton.repository import config, write_triton
from neva.errors import NevaError
from neva.model import Checkpoint

README = Path(__file__).parents[2] / "src" / "neva" / "deploy" / "triton" / "readme.md"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("exported")))


def test_what_is_written(source: Checkpoint, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", str(source.path), "triton", "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0 and done.stdout == f"{tmp_path / 'out'}\n"
    written = {
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and "checkpoint" not in path.parts
    }
    files = ("config.pbtxt", "1/model.py")
    models = {f"models/{model}/{file}" for model in ("neva", "neva_whole") for file in files}
    assert written == {"README.md", *models}
    settings = (tmp_path / "out/models/neva/config.pbtxt").read_text()
    found = dict(re.findall(r'key: "(\w+)" value \{ string_value: "([^"]*)" \}', settings))
    assert found == {"checkpoint": "../../checkpoint", "engine": "openvino",
                     "precision": "int8-fast"}  # fmt: skip
    place = (tmp_path / "out/models/neva" / found["checkpoint"]).resolve()
    assert Checkpoint.open(place).sha256 == source.sha256


@pytest.mark.parametrize(("name", "streams"), [("neva", True), ("neva_whole", False)])
def test_settings_name_every_tensor(name: str, streams: bool) -> None:
    text = config(name, {}, streams)
    assert f"decoupled: {str(streams).lower()} " in text and "max_batch_size: 0" in text
    declared = re.findall(r'^(input|output) \[ \{ name: "(\w+)" data_type: TYPE_(\w+)', text, re.M)
    assert declared == [
        *(("input", one.name, one.kind) for one in INPUTS),
        *(("output", one.name, one.kind) for one in OUTPUTS),
    ]


def test_its_manual_tells_every_tensor() -> None:
    told = README.read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \[(-?1)\] \|", told, re.M)
    assert sorted(rows) == sorted((one.name, one.kind, "-1" if one.many else "1") for one in INPUTS)
    assert all(f"`{one.name}`" in told for one in OUTPUTS)


def test_nothing_is_left_of_what_cannot_work(source: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(NevaError, match="no engine"):
        write_triton(source, tmp_path / "out", "other")
    with pytest.raises(NevaError, match="precision"):
        write_triton(source, tmp_path / "out", "openvino", "int3")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(NevaError, match="already exists"):
        write_triton(source, tmp_path / "full")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("hf", "--weights", "f16"), "--weights and --class-token are options of"),
        (("triton", "--class-token", "first"), "--weights and --class-token are options of"),
        (("gguf", "--class-token", "middle"), "--class-token is one of"),
        (("gguf", "--weights", "q3"), "--weights is one of"),
        (("gguf", "--engine", "torch"), "options of the format triton"),
        (("trtllm", "--precision", "fp32"), "options of the format triton"),
    ],
)
def test_options_without_effect_are_refused(
    source: Checkpoint, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = CliRunner().invoke(app, ["export", str(source.path), *words, "-o", str(tmp_path / "o")])
    assert done.exit_code == 2 and not any(tmp_path.iterdir())
    assert sentence in re.sub(r"[\s│]+", " ", done.output)
