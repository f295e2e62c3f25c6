"""The serving benchmark's own arithmetic: its table, its client, its intervals."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).resolve().parent.parent / "benchmarks")


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def result(peer: str, first: float, rate: float, **more: Any) -> dict[str, Any]:
    times = {"p50": first, "p95": first, "p99": first}
    crowd = {"requests": 8, "finished": 8, "tokens_per_s": rate, "ttft_ms": times, "gap_ms": times}
    names = ("ttft_new_image_ms", "ttft_same_image_ms", "ttft_turn_2_ms")
    return {"peer": peer, "shape": "b32", "clients_8": crowd} | dict.fromkeys(names, times) | more


def test_the_best_is_marked_and_the_raw_engine_does_not_compete() -> None:
    from serve_table import table

    said = table(
        [
            result("neva int8", 40, 97),
            result("raw int8", 38, 100),
            result("other", 30, 50),
            {"peer": "broken", "shape": "b32", "failed": "RuntimeError: no\nwheel"},
        ]
    )
    lines = {line.split(" | ")[0].strip("| "): line for line in said.splitlines()[:8]}
    assert "**97**" in lines["neva int8"] and "**40**" not in lines["neva int8"]
    assert lines["other"].count("**30**") == 3 and "**" not in lines["raw int8"]
    assert "failed: RuntimeError: no |" in said
    assert "new image +2.0 ms" in said and "8: -3.0%" in said


def test_the_client_hears_events_however_they_are_cut() -> None:
    from serve_client import HttpAsker, Place

    pieces = [{"choices": [{"delta": {"content": text}}]} for text in ("", "A", "\u00e9\n\n")]
    told = [*pieces, {"choices": [], "usage": {"completion_tokens": 5}}]
    stream = "".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
        asked = json.loads(await reader.readexactly(length))
        if asked["max_tokens"] == 0:
            writer.write(b"HTTP/1.1 422 No\r\n\r\nno tokens")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            data = stream.encode()
            for start in range(0, len(data), 7):
                piece = data[start : start + 7]
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        writer.close()

    async def both() -> list[Any]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        asker = HttpAsker(Place(server.sockets[0].getsockname()[1], "m"))
        bodies: list[dict[str, object]] = [{"max_tokens": 9}, {"max_tokens": 9}, {"max_tokens": 0}]
        async with server:
            return await asyncio.to_thread(asker.ask, bodies, 1, 30.0)

    one, two, refused = asyncio.run(both())
    assert one.text == two.text == "A\u00e9\n\n" and one.error is None
    assert len(one.stamps) == 2 and one.tokens == 5 and one.ttft > 0 and len(one.gaps) == 1
    assert refused.error is not None and "422" in refused.error and "no tokens" in refused.error


def test_every_peer_has_a_place_of_its_own() -> None:
    from serve_peers import PEERS, USUAL

    assert set(USUAL) <= set(PEERS)
    assert len({name.replace(" ", "-") for name in PEERS}) == len(PEERS)


def test_pairs_tell_what_one_costs_more_through_a_machine_that_changes() -> None:
    from serve_pair import Figure, paired, row

    turns: list[str] = []

    class Peer:
        def __init__(self, name: str, extra: float) -> None:
            self.name, self.extra = name, extra

    def take(asker: Any, pair: int) -> float:
        turns.append(asker.name)
        busy = 50.0 * (pair % 7)  # far more than what is to be found
        return busy + 20.0 + float(asker.extra)

    peers: Any = [Peer("one", 3.0), Peer("other", 0.0)]
    found = paired(Figure("TTFT", take), peers, 20, 1)
    assert turns[:4] == ["one", "other", "other", "one"]
    assert found["more"] == 3.0 and found["interval_95"] == [3.0, 3.0]
    assert row(found).startswith("| TTFT, ms | 20 |") and "+3.0 ms (+3.0 to +3.0)" in row(found)

    rates = paired(Figure("crowd", lambda who, pair: 100 + who.extra, ratio=True), peers, 4, 1)
    assert rates["more"] == 3.0 and rates["more_unit"] == "%"


def test_the_interval_is_as_wide_as_the_noise() -> None:
    from serve_pair import interval

    rng = np.random.default_rng(5)
    low, high = interval(rng.normal(2.0, 10.0, 60))
    assert low < 2.0 < high and 2.0 < high - low < 12.0


@pytest.mark.parametrize("gone", [False, True], ids=["just-ending", "long-gone"])
def test_the_raw_engine_is_asked_over_a_pipe_and_its_end_is_told(gone: bool) -> None:
    import subprocess
    import sys

    from serve_start import PipeAsker

    program = (
        "import json, sys\n"
        "asked = json.loads(sys.stdin.readline())\n"
        "text = str([asked['clients'], asked['seconds'], len(asked['bodies'])])\n"
        "print(json.dumps([{'sent': 1.0, 'stamps': [1.5, 2.0], 'text': text, 'counted': 2}]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asker = PipeAsker(process)
        (answer,) = asker.ask([{}, {}], 8, 5.0)
        assert answer.ttft == 0.5 and answer.text == "[8, 5.0, 2]" and answer.tokens == 2
        if gone:  # else the question may still be taken by the pipe
            process.wait()
        with pytest.raises(RuntimeError, match="ended with code 0"):
            asker.ask([{}], 1, 5.0)
