"""The command `neva` as a process: exit codes, what it imports, and one sentence per error."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from neva import cli
from neva.errors import NevaError

HEAVY = ("torch", "fastapi", "openvino", "transformers", "numpy", "neva.engine", "neva.server")


def neva(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `neva WORDS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "neva", *words],
        capture_output=True,
        text=True,
        env={"PATH": "", "COLUMNS": "120", **environment},
        timeout=60,
    )


def test_help_lists_the_verbs_and_imports_none() -> None:
    code = (
        "import sys; sys.argv = ['neva', '--help']\n"
        "from neva.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in sys.modules if m.startswith('neva.commands.')"
        f" or m in {HEAVY!r}], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    assert shown.stderr.strip() == "[]"
    for verb in ("chat", "eval"):
        assert verb in shown.stdout


def test_chat_imports_no_torch_and_no_server() -> None:
    code = "import sys, neva.commands.chat, neva.commands.eval; print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    modules = shown.stdout
    assert "'neva.engine'" in modules
    for heavy in ("'torch'", "'fastapi'", "'transformers'", "'neva.server'", "'openvino'"):
        assert heavy not in modules


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--version",), 0, "neva 0."),
        (("caht",), 2, "Did you mean 'chat'"),
        ((), 2, "Usage"),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int, says: str) -> None:
    shown = neva(*words)
    assert shown.returncode == code
    assert says in shown.stdout + shown.stderr


def broken(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (NevaError("x.json: broken; mend it."), 1, "neva: x.json: broken; mend it.\n"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "/f"), 1, "Permission denied: '/f'"),
        (ModuleNotFoundError("No module", name="torch.nn"), 1, "torch is not installed"),
        (ModuleNotFoundError("No module 'nope'", name="nope"), 1, "a fault of ours"),
        (ZeroDivisionError("by 0"), 1, "a fault of ours: ZeroDivisionError: by 0"),
    ],
)
def test_errors_are_one_sentence(
    error: Exception, code: int, says: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cli, "app", lambda: broken(error))
    monkeypatch.delenv(cli.DEBUG, raising=False)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") <= 1


def test_a_fault_shows_its_traceback_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda: broken(ZeroDivisionError("by 0")))
    monkeypatch.setenv(cli.DEBUG, "1")
    with pytest.raises(SystemExit):
        cli.main()
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [v for v in cli.VERBS if find_spec(f"neva.commands.{v}")])
def test_every_listed_verb_loads_and_has_help(verb: str) -> None:
    function = getattr(import_module(f"neva.commands.{verb}"), cli.VERBS[verb][0])
    assert function.__doc__
    assert cli.load(verb).name == verb


@pytest.mark.parametrize("verb", [v for v in cli.VERBS if find_spec(f"neva.commands.{v}")])
def test_no_word_of_its_help_is_swallowed(verb: str) -> None:
    """A bracket with a word in it is markup to what draws the help, unless it is escaped."""
    command = cli.load(verb)
    texts = [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]
    for below in getattr(command, "commands", {}).values():
        texts += [below.help or "", *(getattr(one, "help", None) or "" for one in below.params)]
    plain = [text for text in texts if "[" in text]
    assert [text for text in plain if re.search(r"(?<!\\)\[[a-z/]", text)] == []


def test_the_package_is_a_program_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neva", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "finetune" in done.stdout
