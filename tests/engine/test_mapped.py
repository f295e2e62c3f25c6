"""Pages of mapped weights are given back, and what they held is still there."""

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.engine.mapped import let_go

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
SIZE = 8 * 2**20


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights of a model.bin"  # a path may have spaces
    file.write_bytes(bytes(range(256)) * (SIZE // 256))
    return file


def mapped(file: Path, prot: int) -> Iterator[mmap.mmap]:
    with file.open("rb") as stream:
        view = mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=prot)
    yield view
    view.close()


def resident(file: Path) -> int:
    """kB of the file's mappings that are in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [n for n, line in enumerate(lines) if line.endswith(str(file))]
    found = [next(line for line in lines[n:] if line.startswith("Rss:")) for n in starts]
    return sum(int(line.split()[1]) for line in found)


def test_pages_that_were_read_are_given_back(weights: Path) -> None:
    for view in mapped(weights, mmap.PROT_READ):
        assert view[:] == weights.read_bytes()
        assert resident(weights) == SIZE // 1024
        assert let_go(weights) == SIZE
        assert resident(weights) == 0
        assert view[4096 * 5 + 7] == 7


def test_what_was_written_is_not_lost(weights: Path) -> None:
    for view in mapped(weights, mmap.PROT_READ | mmap.PROT_WRITE):
        view[100:103] = b"new"
        assert let_go(weights) == 0
        assert view[100:103] == b"new"


def test_where_proc_is_hidden_nothing_happens(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", hidden)
    assert let_go(weights) == 0


def test_a_file_that_is_not_mapped_is_nothing(weights: Path) -> None:
    assert let_go(weights) == 0
    assert let_go(weights.with_name("none.bin")) == 0
