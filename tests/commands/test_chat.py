"""`neva chat` with a real engine and a tiny model: what goes to stdout, and what does not."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from neva.cli import main
from neva.commands.talk import Talk
from neva.engine.protocol import Engine, Sampling
from neva.images import read_image


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """`neva WORDS` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["neva", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_streams_the_answer_that_json_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, picture: Path,
) -> None:  # fmt: skip
    words = ("chat", picture, "what is it?", "--model", checkpoint, "--max-tokens", 12)
    assert run(monkeypatch, *words) == 0
    streamed = capsys.readouterr()
    assert run(monkeypatch, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    controls = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}
    assert streamed.out == found["answer"].translate(controls) + "\n"
    assert len(found["answer"]) > 3
    assert found["finish"] == "length"
    assert found["completion_tokens"] == 12
    assert found["model"] == checkpoint.name
    assert "cut" in streamed.err


def test_a_conversation_remembers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    engine: Engine, picture: Path,
) -> None:  # fmt: skip
    def say(*lines: object) -> list[str]:
        """The lines of the answers to these lines."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(str, lines)) + "\n"))
        talk = Talk(engine, Sampling(0.0, max_tokens=8), None, Console(stderr=True))
        talk.run(read_image(picture))
        return capsys.readouterr().out.split("\n")[:-1]

    once = say("what is it?", "and now?")
    assert len(once) >= 2
    first = say("what is it?")
    assert (
        say("what is it?", "/reset", f"/image {picture}", "what is it?", "and now?") == first + once
    )
    assert say("what is it?", "/image nothing.png", "/nonsense", "and now?") == once
    assert say("what is it?", "/quit", "and now?") == first
    assert say("and now?") != once[len(first) :]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("chat", "missing.png", "what?"), 1, "missing.png does not exist"),
        (("chat", "PICTURE", "what?", "--model", "nowhere"), 1, "nowhere: no such directory"),
        (("chat", "PICTURE", "what?", "--temperature", "9"), 2, "--temperature"),
        (("chat", "PICTURE", "--json"), 2, "--json needs a question"),
        (("chat", "PICTURE", "?", "--model", "TINY", "--engine", "warp"), 1, "no engine 'warp'"),
        (("chat", "TEXT", "what?"), 1, "is not a PNG, JPEG, WebP or GIF"),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, picture: Path, words: tuple[str, ...], code: int, says: str,
) -> None:  # fmt: skip
    text = picture.with_suffix(".txt")
    text.write_text("no picture")
    known = {"PICTURE": picture, "TINY": checkpoint, "TEXT": text}
    assert run(monkeypatch, *(known.get(word, word) for word in words)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
    if code == 1:
        assert shown.err.startswith("neva: ")
        assert shown.err.count("\n") == 1
        assert "Traceback" not in shown.err


def test_an_over_long_question_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, picture: Path,
) -> None:  # fmt: skip
    assert run(monkeypatch, "chat", picture, "long " * 300, "--model", checkpoint) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "tokens" in shown.err
    assert shown.err.count("\n") == 1


def shell(words: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """`sh -c WORDS` with these as $1, $2 ...; $0 is neva."""
    neva = Path(sys.executable).with_name("neva")
    command = ["sh", "-c", words, str(neva), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_questions_from_a_pipe_that_fail_end_with_1(checkpoint: Path, picture: Path) -> None:
    ask = 'echo what? | "$0" chat "$1" --model "$2" --max-tokens '
    failed = shell(ask + "100000", picture, checkpoint)
    assert failed.returncode == 1 and "lower max_tokens" in failed.stderr
    assert shell(ask + "3", picture, checkpoint).returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ('"$0" chat "$1" what --model "$2" >&-', "stdout is closed"),
        ('"$0" chat "$1" --model "$2" <&-', "stdin is closed"),
        ('"$0" chat - what --model "$2" <&-', "stdin is closed"),
        ('"$0" chat "$1" "$(printf "caf\\351")" --model "$2"', "the question is not UTF-8"),
        ('"$0" chat "$1" a --system "$(printf "\\351")" --model "$2"', "system text is not UTF-8"),
    ],
)
def test_what_a_shell_can_do_wrong_is_one_sentence(
    checkpoint: Path, picture: Path, words: str, says: str
) -> None:
    made = shell(words, picture, checkpoint)
    assert made.returncode == 1
    assert says in made.stderr and made.stderr.count("\n") == 1
    assert "fault of ours" not in made.stderr


def test_a_closed_stdin_is_no_matter_where_nothing_is_read(checkpoint: Path, picture: Path) -> None:
    words = '"$0" chat "$1" what --model "$2" --max-tokens 3 <&-'
    assert shell(words, picture, checkpoint).returncode == 0
