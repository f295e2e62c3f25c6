"""`neva card`: what it tells is in the checkpoint, the results or the notes, or is said to lack."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from neva.cli import main
from neva.deploy.card import UNSAID, Notes, card, parameters, restricted
from neva.model.checkpoint import Checkpoint
from neva.model.provenance import DatasetUsed

RESULT = {
    "task": "easy-vqa",
    "asked": {"suffix": "", "engine": "openvino", "precision": "int8"},
    "questions": 100,
    "of": 9673,
    "metrics": {"accuracy": 81.25, "n.shape": 40.0},
    "beside": {"text": {"accuracy": 60.5}},
    "floor": {"accuracy": 66.94},
    "interval_95": [72.0, 88.0],
}


@pytest.fixture
def trained(checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with two data sets on record."""
    folder = Path(copytree(checkpoint, tmp_path / "trained"))
    opened = Checkpoint.open(folder)
    used = (
        DatasetUsed("LLaVA-Instruct-150K", "1", "ab" * 32, "CC-BY-NC-4.0", 157712, 3),
        DatasetUsed("easy-vqa", "1.0", "cd" * 32, "MIT", 38575),
    )
    replace(opened.provenance, datasets=used, recipe={"learning_rate": 2e-5}).write(folder)
    return folder


def test_tells_what_the_checkpoint_holds(trained: Path) -> None:
    opened = Checkpoint.open(trained)
    text = card(opened, [RESULT], Notes("tiny", licence="Apache-2.0"))
    assert text.startswith("# tiny\n")
    assert opened.sha256 in text
    assert "| LLaVA-Instruct-150K | 1 | CC-BY-NC-4.0 | 157,712 | 3 | `abababababababab` |" in text
    assert "| Non-commercial training data | LLaVA-Instruct-150K |" in text
    assert "| learning_rate | 2e-05 |" in text
    assert "| accuracy | 81.25 | 60.50 | 66.94 |" in text
    assert "n.shape" not in text
    assert f"{sum(parameters(opened).values()):,}" in text
    assert UNSAID in text


def test_counts_every_parameter(checkpoint: Path) -> None:
    from safetensors import safe_open

    opened = Checkpoint.open(checkpoint)
    total = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, "np") as file:  # type: ignore[no-untyped-call]
            total += sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert sum(parameters(opened).values()) == total
    assert parameters(opened)["projector"] == 48 * 64 + 64 + 64 * 64 + 64


def test_says_what_is_not_known(checkpoint: Path) -> None:
    text = card(Checkpoint.open(checkpoint), [], Notes("bare"))
    assert "No data set is recorded" in text
    assert "Not evaluated" in text
    assert f"| Licence | {UNSAID} |" in text


def test_a_bar_does_not_break_a_table(checkpoint: Path) -> None:
    notes = Notes("x", fields={"Bias": {"Measures | taken": "a\nb"}})
    assert "| Measures \\| taken | a b |" in card(Checkpoint.open(checkpoint), [], notes)


@pytest.mark.parametrize(
    ("licence", "bound"),
    [("CC-BY-NC-4.0", True), ("CC BY-NC-SA", True), ("non-commercial", True), ("MIT", False),
     ("CC-BY-SA-4.0", False), ("", False)],
)  # fmt: skip
def test_restricted(licence: str, bound: bool) -> None:
    assert restricted(licence) is bound


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--result", "{}", "is not a result of `neva eval`"),
        ("--result", "{", "broken JSON"),
        ("--notes", '{"nmae": "x"}', "only name, description, licence and fields"),
        ("--notes", '{"fields": {"Basi": {}}}', "no subcard 'Basi'"),
    ],
)
def test_bad_files_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path, option: str, content: str, says: str,
) -> None:  # fmt: skip
    file = tmp_path / "given.json"
    file.write_text(content)
    out = tmp_path / "card.md"
    words = ["neva", "card", checkpoint, option, file, "-o", out]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_writes_the_file(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(RESULT))
    (tmp_path / "n.json").write_text('{"name": "named", "licence": "MIT"}')
    out = tmp_path / "card.md"
    given = ["--result", tmp_path / "r.json", "--notes", tmp_path / "n.json", "-o", out]
    monkeypatch.setattr(sys, "argv", ["neva", "card", str(checkpoint), *map(str, given)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert out.read_text().startswith("# named\n")
    assert "### easy-vqa" in out.read_text()
