"""Many clients for a long time against a server: errors counted, memory watched.

    neva serve --port 8000 &
    python benchmarks/soak.py --url http://127.0.0.1:8000 --pid $! --seconds 600 --clients 32

Each client asks about a picture of its own noise (every fourth is one that was sent before),
streams half of its answers, and leaves in the middle of some. Prints the resident memory of the
server and its children over time; fails if the last fifth needs over 5% more than the second.
"""

import argparse
import base64
import http.client
import io
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image


def picture(rng: random.Random) -> str:
    """A data URI of noise, 96 x 96."""
    sink = io.BytesIO()
    Image.frombytes("RGB", (96, 96), rng.randbytes(96 * 96 * 3)).save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return [pid, *(each for child in children for each in family(child))]


def resident(pid: int) -> int:
    """Bytes of memory that a process and its children hold."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * 4096


def ask(place: tuple[str, int], body: dict[str, object], leave: bool) -> str:
    """One request; the kind of its end."""
    connection = http.client.HTTPConnection(*place, timeout=300)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if leave:
            response.read(200)
            return "left"
        said = response.read()
        whole = said.endswith(b"[DONE]\n\n") if body["stream"] else b'"choices"' in said
        return str(response.status) if whole or response.status != 200 else "cut off"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def client(place: tuple[str, int], seed: int, until: float, ends: Counter[str]) -> None:
    """Ask until the time is over."""
    rng = random.Random(seed)
    known = picture(rng)
    while time.monotonic() < until:
        shown = known if rng.random() < 0.25 else picture(rng)
        content = [
            {"type": "image_url", "image_url": {"url": shown}},
            {"type": "text", "text": "What is this?"},
        ]
        body: dict[str, object] = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": rng.randrange(8, 64),
            "stream": rng.random() < 0.5,
        }
        ends[ask(place, body, leave=bool(body["stream"]) and rng.random() < 0.1)] += 1


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, required=True, help="process of the server")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=32)
    given = parser.parse_args()
    parts = urlsplit(given.url)
    place, until = (parts.hostname or "", parts.port or 80), time.monotonic() + given.seconds
    ends: Counter[str] = Counter()
    threads = [
        threading.Thread(target=client, args=(place, seed, until, ends))
        for seed in range(given.clients)
    ]
    for thread in threads:
        thread.start()
    memory: list[int] = []
    while time.monotonic() < until:
        memory.append(resident(given.pid))
        time.sleep(given.seconds / 50)
    for thread in threads:
        thread.join()
    fifth = max(1, len(memory) // 5)
    early, late = max(memory[fifth : 2 * fifth]), max(memory[-fifth:])
    print(f"{sum(ends.values())} requests: {dict(ends)}")
    print("memory, MiB:", *(round(size / 2**20) for size in memory[:: max(1, fifth // 2)]))
    print(f"second fifth {early / 2**20:.0f} MiB, last fifth {late / 2**20:.0f} MiB")
    bad = set(ends) - {"200", "429", "left"}
    if bad or late > 1.05 * early:
        raise SystemExit(f"not steady: {bad or 'memory grows'}")


if __name__ == "__main__":
    main()
