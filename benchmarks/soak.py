"""Many clients for a long time against `neva serve`: errors counted, memory and files watched.

    python benchmarks/soak.py --seconds 600 --clients 32 --out soak.json
    python benchmarks/soak.py --seconds 600 --clients 32 --locust PATH/TO/locust

Starts the server (`--model`: another than the default one), or watches one that runs (`--url` with
`--pid`). Each client asks about a picture of its own noise (every fourth is one it sent before),
streams half of its answers, and leaves a tenth of those in the middle. Fails if an answer failed,
if answers or open files are left over, or if the server and its engine together hold over 5% more
memory in the last fifth of the time than in the third: the caches fill before that.
"""

import argparse
import contextlib
import csv
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from soak_load import FINE, Asker, ask, crowd

PAGE = os.sysconf("SC_PAGE_SIZE")
START_SECONDS = 300
SETTLE_SECONDS = 30


@dataclass
class Report:
    """What was seen."""

    requests: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    """Bytes resident in the server and all below it, evenly over the time."""
    files: tuple[int, int] = (0, 0)
    """Open files of the server before and after."""
    running: float = 0.0
    """Answers that the server still counts as running at the end."""

    def growth(self) -> float:
        """Last fifth against third, medians."""
        fifth = max(1, len(self.memory) // 5)
        third = statistics.median(self.memory[2 * fifth : 3 * fifth] or self.memory)
        return statistics.median(self.memory[-fifth:]) / third - 1

    def faults(self, growth: float) -> list[str]:
        """Why it was not steady."""
        bad = {end: n for end, n in self.ends.items() if end not in FINE}
        found = [f"answers ended badly: {bad}"] if bad else []
        if not self.ends.get("200"):
            found.append("no answer was given")
        if self.growth() > growth:
            found.append(f"memory grew by {self.growth():.1%}")
        if self.files[1] > self.files[0] + 8:
            found.append(f"open files grew from {self.files[0]} to {self.files[1]}")
        if self.running:
            found.append(f"{self.running:.0f} answers are still counted as running")
        return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return [pid, *(each for child in children for each in family(child))]


def resident(pid: int) -> int:
    """Bytes of memory that a process and its children hold."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE
    return total


def open_files(pid: int) -> int:
    """Descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def get(url: str) -> str:
    """A page, empty if it is not there yet."""
    with contextlib.suppress(OSError, urllib.error.URLError):
        return str(urllib.request.urlopen(url, timeout=30).read().decode())
    return ""


def running(url: str) -> float:
    """Answers in the engine, as the server says."""
    lines = get(f"{url}/v1/metrics").splitlines()
    return next((float(x.split()[-1]) for x in lines if x.startswith("num_requests_running{")), -1)


@contextlib.contextmanager
def server(model: Path | None, options: list[str]) -> Iterator[tuple[str, int]]:
    """`neva serve` on a free port; (url, process id)."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    command = [sys.executable, "-m", "neva", "serve", "--port", str(port), *options]
    command += ["--model", str(model)] if model else []
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, "--data", data], stderr=log)
        try:
            until = time.monotonic() + START_SECONDS
            while not get(f"{url}/v1/health/ready"):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise SystemExit(f"neva serve did not start: {log.read()[-2000:]}")
                time.sleep(0.2)
            yield url, process.pid
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                raise SystemExit(f"neva serve ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()


def by_locust(locust: Path, url: str, clients: int, seconds: float, ends: Counter[str]) -> None:
    """The same load by locust; it counts 429 and those that left as answered."""
    file = Path(__file__).with_name("locustfile.py")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(locust), "-f", str(file), "--headless", "--only-summary", "--host", url]
        command += ["-u", str(clients), "-r", str(clients), "-t", f"{max(1, round(seconds))}s"]
        command += ["--stop-timeout", "300", "--csv", f"{folder}/soak"]
        subprocess.run(command, check=False)
        with Path(folder, "soak_stats.csv").open() as table:
            for row in csv.DictReader(table):
                if row["Name"] != "Aggregated":
                    kind = "left" if row["Name"] == "left" else "200"
                    ends[kind] += int(row["Request Count"]) - int(row["Failure Count"])
                    ends["failed"] += int(row["Failure Count"])


def soak(url: str, pid: int, given: argparse.Namespace) -> Report:
    """Load the server, look at it meanwhile, and let it come to rest."""
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port or 80)
    ask(place, Asker(-1).question()[0], leave=False)  # the first request compiles the vision tower
    report, ends, started = Report(), Counter[str](), time.monotonic()
    before = open_files(pid)
    if given.locust:
        job = (by_locust, (given.locust, url, given.clients, given.seconds, ends))
    else:
        job = (crowd, (place, given.clients, given.seconds, ends))
    load = threading.Thread(target=job[0], args=job[1])
    load.start()
    while load.is_alive():
        report.memory.append(resident(pid))
        load.join(given.seconds / 100)
    report.seconds = time.monotonic() - started
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until and (running(url) or open_files(pid) > before):
        time.sleep(0.2)
    report.running, report.files = running(url), (before, open_files(pid))
    report.ends = {end: n for end, n in sorted(ends.items()) if n}
    report.requests = sum(ends.values())
    return report


def show(report: Report) -> None:
    """For people."""
    rate = report.requests / report.seconds
    print(f"{report.requests} requests in {report.seconds:.0f} s ({rate:.1f}/s): {report.ends}")
    step = max(1, len(report.memory) // 10)
    print("memory, MiB:", *(round(size / 2**20) for size in report.memory[::step]))
    print(f"last fifth against third: {report.growth():+.1%}; open files {report.files}")


def main() -> None:
    """Run it."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--model", type=Path, help="checkpoint to serve")
    parser.add_argument("--serve", action="append", default=[], help="option of neva serve")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--growth", type=float, default=0.05, help="memory's, as a fraction")
    parser.add_argument("--locust", type=Path, help="locust's command: it makes the load")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    given = parser.parse_args()
    if (given.url is None) != (given.pid is None):
        parser.error("--url and --pid belong together")
    if given.url:
        report = soak(given.url.rstrip("/"), given.pid, given)
    else:
        with server(given.model, given.serve) as (url, pid):
            report = soak(url, pid, given)
    show(report)
    if given.out:
        given.out.write_text(json.dumps({**asdict(report), "growth": report.growth()}) + "\n")
    if faults := report.faults(given.growth):
        raise SystemExit("not steady: " + "; ".join(faults))


if __name__ == "__main__":
    main()
