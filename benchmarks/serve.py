"""Ours against every other server that runs a LLaVA checkpoint on a CPU: one command, one table.

    python benchmarks/serve.py --build           # environments outside of the tree, once
    python benchmarks/serve.py                   # every peer and shape in turn, then the table
    python benchmarks/serve.py --quick --shape b32 --peer "neva int8" --peer "llama.cpp q8_0"

The same random-weight checkpoint, load and threads for all, one at a time. Each peer and shape
leaves a JSON file in --work; what is there is not measured again (delete it, or --again). A peer
that fails leaves its reason in the table. Needs the `train` extra (torch composes the checkpoint).
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from serve_checkpoint import SHAPES, checkpoint
from serve_load import QUICK, Load, measure, warm
from serve_peers import PEERS, THREADS, USUAL, Peer, Start
from serve_process import clean, free_port
from serve_start import served
from serve_table import table
from serve_venvs import ready, refresh, size_mb


def main() -> None:
    """Build, measure what is missing, print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    given = _arguments()
    load = replace(QUICK if given.quick else Load(), patience=given.patience)
    given.work.mkdir(parents=True, exist_ok=True)
    if given.build:
        for wants in {PEERS[name].wants for name in given.peer}:
            _try(wants.name, lambda wants=wants: ready(wants, given.environments, True))
        return
    if not given.table and any(PEERS[name].wants.name == "neva" for name in given.peer):
        refresh(ready(PEERS["neva int8"].wants, given.environments, False).parent)
    found: list[dict[str, Any]] = []
    for shape in given.shape:
        for name in given.peer:
            file = given.work / f"{shape}-{name.replace(' ', '-')}.json"
            if not given.table and (given.again or _missing(file)):
                result = _measured(PEERS[name], shape, load, given)
                file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            if file.exists():
                found.append(json.loads(file.read_text(encoding="utf-8")))
    print(table(found))


def _missing(file: Path) -> bool:
    """Never measured, or in vain."""
    return not file.exists() or "failed" in json.loads(file.read_text(encoding="utf-8"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = Path.home() / ".cache" / "neva-bench"
    add = parser.add_argument
    add("--build", action="store_true", help="make the environments that are missing, and stop")
    add("--quick", action="store_true", help="fewer and shorter answers")
    add("--again", action="store_true", help="measure what has been measured before as well")
    add("--table", action="store_true", help="only print the table of what has been measured")
    add("--shape", action="append", choices=list(SHAPES), help="default: b32 and l14")
    add("--peer", action="append", choices=list(PEERS), help=f"default: {', '.join(USUAL)}")
    add("--patience", type=float, default=45.0, help="seconds after which a crowd is cut off")
    add("--start", type=float, default=180.0, help="seconds until a server's first answer")
    add("--work", type=Path, default=home / "results", help="results, logs, converted files")
    add("--environments", type=Path, default=home / "environments")
    add("--models", type=Path, default=home / "models", help="the checkpoints that it makes")
    given = parser.parse_args()
    given.shape = given.shape or ["b32", "l14"]
    given.peer = given.peer or list(USUAL)
    return given


def _measured(peer: Peer, shape: str, load: Load, given: argparse.Namespace) -> dict[str, Any]:
    """One peer's JSON; a failure is a result too."""
    print(f"{shape}: {peer.name} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    head: dict[str, Any] = {"peer": peer.name, "about": peer.about, "shape": shape}
    head |= {"load": asdict(load), "threads": THREADS, "date": time.strftime("%Y-%m-%d")}
    try:
        folder = ready(peer.wants, given.environments, False)
        path = checkpoint(SHAPES[shape], given.models)
        start = Start(folder, path, given.work, free_port())
        head["install_mb"] = size_mb(folder.parent)
        head |= _raw(peer, start, load) if peer.raw else _served(peer, start, load, given.start)
    except Exception as error:
        head["failed"] = f"{type(error).__name__}: {error}"[:600]
    seconds = round(time.perf_counter() - began, 1)
    print(f"  {head.get('failed', 'done')} after {seconds} s", file=sys.stderr, flush=True)
    return head | {"took_s": seconds}


def _served(peer: Peer, start: Start, load: Load, patience: float) -> dict[str, Any]:
    """Start the server, wait for its first answer, measure, look at its memory."""
    with served(peer, start, patience) as (asker, server):
        loaded = round(time.perf_counter() - server.started, 2)
        warm(asker, load)
        idle = server.resident_mb
        found = measure(asker, load)
        return {"load_s": loaded, "idle_mb": idle, "peak_mb": server.peak_mb, **found}


def _raw(peer: Peer, start: Start, load: Load) -> dict[str, Any]:
    """The engine without a server measures itself."""
    command = [*peer.command(start), str(peer.raw), json.dumps(asdict(load))]
    made = subprocess.run(command, capture_output=True, text=True, timeout=900, env=clean())
    if made.returncode:
        raise RuntimeError(made.stderr.strip()[-400:] or f"code {made.returncode}")
    return dict(json.loads(made.stdout.splitlines()[-1]))


def _try(name: str, work: Any) -> None:
    try:
        work()
    except RuntimeError as error:
        print(f"{name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
