"""Figures name the machine they were measured on."""

from pathlib import Path

import pytest

from neva.evaluate.machine import machine


@pytest.mark.parametrize(
    ("flags", "told"),
    [("sse2 avx2", ", AVX2"), ("avx2 avx512f avx512_bf16", ", AVX-512 with bf16"), ("sse2", "")],
)
def test_the_widest_vectors_are_told(tmp_path: Path, flags: str, told: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: X 9\nflags\t\t: fpu {flags}\n\n")
    assert machine(file).endswith(f" of X 9{told}") and "core" in machine(file)


def test_a_system_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    assert "core" in machine(tmp_path / "none")
