"""Numbers out of range are wrong usage, before anything is reckoned or written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from neva.commands.key import key, write
from neva.commands.plan import plan
from neva.errors import NevaError
from neva.server.auth import Key, Keys

HUGE = "1" + "0" * 400


def run(function: Callable[..., None], *words: object) -> int:
    single = typer.Typer()
    single.command()(function)
    return CliRunner().invoke(single, [*map(str, words)], catch_exceptions=False).exit_code


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--mfu", ("0", "-1", "1.1", "1e-300", "nan", "inf")),
        ("--tflops", ("0", "-1", "1e300", "nan", "inf")),
        ("--memory", ("0", "-1", "1e300", "nan", "inf")),
        ("--samples", ("0", "-5", HUGE)),
        ("--gpus", ("0", "-1", HUGE)),
    ],
)
def test_a_plan_of_impossible_hardware(option: str, values: tuple[str, ...]) -> None:
    assert [run(plan, "neva-nano", option, value) for value in values] == [2] * len(values)


@pytest.mark.parametrize("hardware", ["0.001 0.001 0.001 1 1", "1000000 1000000 1 1000000 1000000"])
def test_a_plan_at_the_bounds(hardware: str) -> None:
    names = ("--memory", "--tflops", "--mfu", "--gpus", "--samples")
    words = [word for pair in zip(names, hardware.split(), strict=True) for word in pair]
    assert run(plan, "llava-v1.5-7b", *words) == 0
    assert run(plan, "neva-nano", "--samples", 10**12) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("rotate", "ann", "--grace", "1e9"),
        ("rotate", "ann", "--grace", "inf"),
        ("rotate", "ann", "--grace", "nan"),
        ("rotate", "ann", "--grace", "-1"),
        ("new", "bob", "--running", "1000000000000"),
        ("new", "bob", "--per-minute", HUGE),
    ],
)
def test_no_number_makes_the_key_file_unreadable(words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert run(key, "new", "ann", "--file", file) == 0
    before = file.read_text()
    assert run(key, *words, "--file", file) == 2
    assert file.read_text() == before


def test_the_longest_grace_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert run(key, "new", "ann", "--file", file, "--running", 10**9) == 0
    assert run(key, "rotate", "ann", "--file", file, "--grace", 87_600) == 0
    (known,) = Keys.read(file).keys
    assert known.running == 10**9 and known.until is not None


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write(file, "ann", Key("ann", "0" * 64))
    with pytest.raises(NevaError, match="nothing was changed"):
        write(file, "ann", Key("ann", "0" * 64, old="1" * 64, until=10**12))
    assert Keys.read(file).keys == (Key("ann", "0" * 64),)
