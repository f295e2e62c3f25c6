"""docs/security.md names tests: each must be there, and every kept promise must name one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "security.md"
NAMED = re.compile(r"`(?:tests/(\w+)/)?(test_\w+\.py)::(test_\w+)`")


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def promises() -> list[str]:
    """The rows of all tables, without their heads."""
    lines = PAGE.read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| promise")]


def test_there_are_many() -> None:
    assert len(promises()) > 40


@pytest.mark.parametrize("row", promises(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_a_promise_names_tests_that_exist(row: str) -> None:
    found = NAMED.findall(row)
    assert found, "no test proves this"
    for room, file, name in found:
        path = TESTS / (room or "server") / file
        assert path.is_file(), f"{room or 'server'}/{file}"
        assert name in functions(path), f"{file} has no {name}"
