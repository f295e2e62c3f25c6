"""Two peers up at once, asked in turn: what one costs more than the other, however busy it is.

    python benchmarks/serve_pair.py "neva int8-fast" "raw int8-fast"
    python benchmarks/serve_pair.py "neva int8-fast" "llama.cpp q8_0" --shape l14 --pairs 10

A shared machine's speed changes by half within minutes, so figures of two runs do not tell 3 % from
noise. Here both answer the same bodies within seconds of each other, the first and the second
changing places from pair to pair, and what counts is the median of the pairs' differences (times to
the first token, ms) or ratios (tokens a second, %), with its 95 % interval by the bootstrap. While
one is asked the other only waits. Leaves a JSON file in --work; see serve.py for the environments.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from serve_checkpoint import SHAPES, checkpoint
from serve_client import Answer
from serve_load import AGAIN, FIRST, Asker, body, picture
from serve_peers import PEERS, THREADS, Peer, Start
from serve_process import free_port
from serve_start import alive
from serve_venvs import TREE, ready, refresh

PATIENCE = 300.0
SHORT, LONG, CROWD = 4, 96, 48
"""Tokens of an answer whose beginning counts, of one alone, and of each client's in a crowd."""


@dataclass(frozen=True)
class Figure:
    """Something measured of both in each pair. `ratio`: of tokens a second; else ms."""

    name: str
    take: Callable[[Asker, int], float]
    ratio: bool = False


def new_image(asker: Asker, pair: int) -> float:
    """ms to the first token of a picture never sent."""
    return _first(asker, body(picture(100 + pair), [FIRST], SHORT))


def same_image(asker: Asker, pair: int) -> float:
    """ms to the first token of another question about a known picture."""
    return _first(asker, body(picture(1), [f"{pair} colours that you see, please."], SHORT))


def turn_2(asker: Asker, pair: int) -> float:
    """ms to the first token of a second turn, whose first was just answered."""
    first = f"{FIRST} In {pair + 2} words."
    (one,) = _asked(asker, [body(picture(1), [first], SHORT)], 1)
    return _first(asker, body(picture(1), [first, one.text or "Colours.", AGAIN], SHORT))


def decode(asker: Asker, pair: int) -> float:
    """Tokens a second of one answer, after its first."""
    (one,) = _asked(asker, [body(picture(1), [f"{FIRST} Part {pair}."], LONG)], 1)
    return (one.tokens - 1) / (one.stamps[-1] - one.stamps[0])


def crowd(clients: int) -> Callable[[Asker, int], float]:
    """Tokens a second of so many clients who come at once, each with a picture of its own."""

    def take(asker: Asker, pair: int) -> float:
        seed = 100_000 * clients + 100 * pair
        bodies = [body(picture(seed + n), [FIRST], CROWD) for n in range(max(2, clients))]
        answers = _asked(asker, bodies, clients)
        wall = max(one.stamps[-1] for one in answers) - min(one.sent for one in answers)
        return sum(one.tokens for one in answers) / wall

    return take


FIGURES = (
    Figure("TTFT new image", new_image),
    Figure("TTFT same image", same_image),
    Figure("TTFT turn 2", turn_2),
    Figure("decode, alone", decode, ratio=True),
    Figure("1 client", crowd(1), ratio=True),
    Figure("8 clients", crowd(8), ratio=True),
    Figure("32 clients", crowd(32), ratio=True),
)


def paired(figure: Figure, askers: Sequence[Asker], pairs: int, first: int) -> dict[str, Any]:
    """One figure of all pairs; pairs are numbered from `first`, and no two have the same number."""
    values = np.zeros((pairs, 2))
    for pair in range(pairs):
        for who in (0, 1) if pair % 2 == 0 else (1, 0):
            values[pair, who] = figure.take(askers[who], first + pair)
    one, other = values.T
    more = 100 * (one / other - 1) if figure.ratio else one - other
    low, high = interval(more)
    return {
        "figure": figure.name,
        "unit": "tokens/s" if figure.ratio else "ms",
        "medians": np.median(values, axis=0).round(2).tolist(),
        "more": round(float(np.median(more)), 2),
        "more_unit": "%" if figure.ratio else "ms",
        "interval_95": [round(low, 2), round(high, 2)],
        "pairs": values.round(3).tolist(),
    }


def interval(values: np.ndarray, draws: int = 4000) -> tuple[float, float]:
    """The median's 95 % interval, by the percentile bootstrap (Efron 1979)."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (draws, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def _first(asker: Asker, asked: dict[str, object]) -> float:
    (one,) = _asked(asker, [asked], 1)
    return 1000 * one.ttft


def _asked(asker: Asker, bodies: Sequence[dict[str, object]], clients: int) -> list[Answer]:
    answers = asker.ask(bodies, clients, PATIENCE)
    for one in answers:
        if one.error is not None or len(one.stamps) < 2:
            raise RuntimeError(one.error or f"{one.tokens} tokens came in {len(one.stamps)} pieces")
    return answers


def _up(stack: ExitStack, peer: Peer, given: argparse.Namespace) -> Asker:
    folder = ready(peer.wants, given.environments, given.build)
    path = checkpoint(SHAPES[given.shape], given.models)
    start = Start(folder, path, given.work, free_port())
    return stack.enter_context(alive(peer, start, PATIENCE))


def row(found: dict[str, Any]) -> str:
    """A figure as a row of a table in Markdown."""
    (one, other), (low, high), unit = found["medians"], found["interval_95"], found["more_unit"]
    more = f"{found['more']:+.1f} {unit} ({low:+.1f} to {high:+.1f})"
    name = f"{found['figure']}, {found['unit']}"
    return f"| {name} | {len(found['pairs'])} | {one:.1f} | {other:.1f} | {more} |"


def main() -> None:
    """Start both, ask in turn, print the table."""
    given = _arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    peers = [PEERS[name] for name in (given.one, given.other)]
    for wants in {peer.wants for peer in peers if str(TREE) in peer.wants.install}:
        refresh(ready(wants, given.environments, given.build).parent)
    found: list[dict[str, Any]] = []
    print(f"| {given.shape} | pairs | {given.one} | {given.other} | more |\n|---|---|---|---|---|")
    with ExitStack() as stack:
        askers = [_up(stack, peer, given) for peer in peers]
        for figure in FIGURES:
            paired(figure, askers, 1, 9000)  # unmeasured: kernels are chosen, caches made
            pairs = given.pairs if not figure.name.endswith("clients") else given.crowds
            found.append(paired(figure, askers, pairs, 1))
            print(row(found[-1]), flush=True)
    head = {"one": given.one, "other": given.other, "shape": given.shape, "threads": THREADS}
    names = f"{given.shape} {given.one} {given.other}".replace(" ", "-")
    out = {**head, "date": time.strftime("%Y-%m-%d"), "figures": found}
    (given.work / f"pair-{names}.json").write_text(json.dumps(out, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = Path.home() / ".cache" / "neva-bench"
    add = parser.add_argument
    add("one", choices=list(PEERS), metavar="ONE", help=f"a peer: {', '.join(PEERS)}")
    add("other", choices=list(PEERS), metavar="OTHER", help="what it is held against")
    add("--shape", choices=list(SHAPES), default="b32")
    add("--pairs", type=int, default=40, help="of single answers (default: 40)")
    add("--crowds", type=int, default=8, help="pairs of 8 and of 32 clients (default: 8)")
    add("--build", action="store_true", help="make an environment that is not there yet")
    add("--work", type=Path, default=home / "results", help="results and logs")
    add("--environments", type=Path, default=home / "environments")
    add("--models", type=Path, default=home / "models", help="the checkpoints that it makes")
    given = parser.parse_args()
    if given.pairs < 1 or given.crowds < 1:
        parser.error("at least one pair of each")
    return given


if __name__ == "__main__":
    sys.exit(main())
