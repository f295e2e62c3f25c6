"""The soak's short form: some seconds of clients against `neva serve`, and its judgement."""

import json
import random
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from echo_engine import EchoEngine
from PIL import Image
from server_house import House, serving

from neva.images import ImageSource

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from soak import Report  # noqa: E402
from soak_load import Asker, ask, complete, picture  # noqa: E402


def test_some_seconds_of_it(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, BENCHMARKS / "soak.py", "--model", checkpoint, "--out", out]
    command += ["--seconds", "6", "--clients", "8", "--growth", "0.5", "--serve=--precision=fp32"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    assert said["requests"] > 8 and said["ends"].keys() <= {"200", "429", "left"}
    assert said["running"] == 0 and len(said["memory"]) > 10
    assert min(said["memory"]) > 50 * 2**20, "the engine's process is counted too"


def report(**changed: object) -> Report:
    plain = {
        "requests": 10,
        "ends": {"200": 9, "left": 1},
        "seconds": 10.0,
        "memory": [100 + step for step in range(5)] + [110] * 95,
        "files": (20, 21),
        "running": 0.0,
    }
    return Report(**{**plain, **changed})  # type: ignore[arg-type]


def test_its_judgement() -> None:
    assert report().faults(0.05) == [], "what grows while caches fill is no leak"
    leak = report(memory=[100 + step for step in range(100)])
    assert "memory grew by 26.8%" in leak.faults(0.05)[0]
    assert "open files grew" in report(files=(20, 40)).faults(0.05)[0]
    assert "still counted" in report(running=2.0).faults(0.05)[0]
    assert "{'500': 1}" in report(ends={"200": 5, "500": 1}).faults(0.05)[0]
    assert report(ends={"429": 5}).faults(0.05) == ["no answer was given"]


def test_its_pictures_are_pictures() -> None:
    rng = random.Random(1)
    first, second = picture(rng), picture(rng)
    image = Image.open(BytesIO(ImageSource(first).data()))
    assert image.size == (96, 96) and len(image.getcolors(96 * 96)) > 9000
    assert first != second
    assert Asker(1).question() == Asker(1).question()


def test_it_tells_ends_apart() -> None:
    whole, streamed = {"stream": False}, {"stream": True}
    assert not complete(streamed, b"data: {}\n\n") and not complete(whole, b'{"choices": []}')
    body, _ = Asker(1).question()
    for stream in (True, False):
        asked = {**body, "stream": stream, "max_tokens": 3}
        with serving(EchoEngine()) as live:
            place = ("127.0.0.1", live.port)
            assert ask(place, asked, leave=False) == "200"
            assert ask(place, {**asked, "messages": []}, leave=False) == "422"
        with serving(EchoEngine(pause=0.01, fail_after=2)) as live:
            place = ("127.0.0.1", live.port)
            assert ask(place, {**asked, "max_tokens": 9}, leave=False) in ("cut off", "503")
        assert ask(place, asked, leave=False) == "ConnectionRefusedError"


@pytest.mark.parametrize("stream", [True, False])
def test_its_questions_are_answered(house: House, stream: bool) -> None:
    body, _ = Asker(2).question()
    answer = house.client.post("/v1/chat/completions", json={**body, "stream": stream})
    assert answer.status_code == 200
    assert complete({"stream": stream}, answer.content)
