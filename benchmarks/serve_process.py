"""A peer's server as a process: started in its own environment, asked until it answers, ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Running:
    """A started process group and its log."""

    process: "subprocess.Popen[bytes]"
    log: Path
    started: float
    start_seconds: float

    @property
    def peak_mb(self) -> float:
        """Peak resident memory of the process and all below it, MB. Shared pages count twice."""
        return round(sum(_peak(pid) for pid in family(self.process.pid)) / 1000, 1)

    @property
    def resident_mb(self) -> float:
        """Memory that the family holds now, MB, shared pages counted once (PSS)."""
        return round(sum(_pss(pid) for pid in family(self.process.pid)) / 1000, 1)

    def check(self) -> None:
        """RuntimeError with the end of its log if it has ended, or is late."""
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with code {self.process.returncode}: {self._said()}")
        if time.perf_counter() - self.started > self.start_seconds:
            raise RuntimeError(f"not ready after {self.start_seconds:.0f} s: {self._said()}")

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-4:])[-600:]


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], start_seconds: float
) -> Iterator[Running]:
    """The process while the context lasts; it and its children are ended after."""
    with log.open("wb") as sink:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            env={**clean(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Running(process, log, started, start_seconds)
        finally:
            _end(process)


def clean() -> dict[str, str]:
    """The environment without what would make one peer find our tree, or lose a thread."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")}


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(child))]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the group that we started to end, then make it."""
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _peak(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:")


def _pss(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _field(file: Path, name: str) -> int:
    """A number of kB (of 1024 bytes) as one of kB (of 1000)."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    found = next((line.split()[1] for line in lines if line.startswith(name)), "0")
    return int(found) * 1024 // 1000
