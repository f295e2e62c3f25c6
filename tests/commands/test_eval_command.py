"""`neva eval` with a real engine and a tiny model."""

import json
from pathlib import Path

import pytest
from called import exit_code

from neva.commands import eval as verb
from neva.model.checkpoint import Checkpoint


def test_measures_and_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    words = ("easy-vqa", "--model", checkpoint, "--limit", 20, "--json", out, "--report", page)
    assert exit_code(monkeypatch, "eval", *words) == 0
    shown = capsys.readouterr()
    assert "accuracy" in shown.out
    found = json.loads(out.read_text())
    assert (found["questions"], found["of"], len(found["answers"])) == (20, 9673, 20)
    assert found["asked"]["baseline"] == "none"
    assert len(found["asked"]["sha256"]) == 64
    assert found["asked"]["weights"] == Checkpoint.open(checkpoint).fingerprint
    assert found["floor"]["accuracy"] > 40
    assert "data:image/png" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "out.json"]


def test_puts_the_baselines_beside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "out.json"
    words = ("easy-vqa", "--model", checkpoint, "--limit", 12, "--json", out)
    beside = ("--beside", "text", "--beside", "shuffled", "--suffix", r"\nShort.")
    assert exit_code(monkeypatch, "eval", *words, *beside) == 0
    shown = capsys.readouterr().out
    assert "text" in shown
    assert "shuffled" in shown
    found = json.loads(out.read_text())
    assert (found["asked"]["baseline"], found["asked"]["suffix"]) == ("none", "\nShort.")
    assert sorted(found["beside"]) == ["shuffled", "text"]
    assert found["beside"]["text"].keys() == found["metrics"].keys()
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_the_score_and_the_answers_survive_a_page_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out, page = tmp_path / "out.json", tmp_path / "out.html"
    words = ("easy-vqa", "--model", checkpoint, "--limit", 3, "--json", out, "--report", page)
    monkeypatch.setattr(verb, "write_whole", full)
    assert exit_code(monkeypatch, "eval", *words) == 1
    shown = capsys.readouterr()
    assert "accuracy" in shown.out
    assert "No space left" in shown.err
    kept = tmp_path / "out.json.partial.jsonl"
    assert len(kept.read_text().splitlines()) == 4, "the run and its three answers"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nosuch",), 2, "nosuch"),
        (("gqa", "--model", "TINY"), 1, "gqa needs its files"),
        (("gqa", "--model", "TINY", "--data", "DIR"), 1, "testdev_balanced_questions.json"),
        (("easy-vqa", "--model", "nowhere"), 1, "nowhere: no such directory"),
        (("easy-vqa", "--url", "127.0.0.1:9"), 1, "no OpenAI-compatible server"),
        (("easy-vqa", "--url", "x", "--model", "y"), 2, "not both"),
        (("easy-vqa", "--model", "TINY", "--json", "no/where.json"), 1, "does not exist"),
        (("pope", "--model", "TINY", "--data", "BROKEN"), 1, "broken JSON"),
        (("easy-vqa", "--model", "nowhere", "--report", "DIR"), 1, "is a folder"),
        (("easy-vqa", "--model", "nowhere", "--json", "/dev/null/x"), 1, "does not exist"),
        (("easy-vqa", "--model", "nowhere", "--json", "/proc/x.json"), 1, "cannot be written"),
        (("easy-vqa", "--model", "nowhere", "--json", "a", "--report", "a"), 1, "cannot share"),
        (("easy-vqa", "--model", "nowhere", "--limit", "1", "--beside", "shuffled"), 1,
         "needs two pictures"),
        (("easy-vqa", "--name", "x"), 2, "it needs --url"),
        (("easy-vqa", "--url", "x", "--precision", "int8"), 2, "with --url the server's"),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path, words: tuple[str, ...], code: int, says: str,
) -> None:  # fmt: skip
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "coco_pope_random.json").write_text('{"question_id": 1,\n')
    monkeypatch.chdir(broken)
    monkeypatch.setenv("COLUMNS", "200")
    known = {"TINY": checkpoint, "DIR": tmp_path, "BROKEN": broken}
    assert exit_code(monkeypatch, "eval", *(known.get(word, word) for word in words)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
    if code == 1:
        assert shown.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]
