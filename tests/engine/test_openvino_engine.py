"""The embedded engine as its callers see it: streams, seeds, stops, limits, faults."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_llava import FAMILIES

from neva.engine import open_engine
from neva.engine.protocol import Chunk, Engine, Request, Sampling, collect
from neva.errors import CheckpointError, EngineError, NevaError, PromptError
from neva.images.image import RGBImage
from neva.prompts import Conversation, ImageSlot, ask, assistant, user

GREEDY = Sampling(temperature=0, max_tokens=24)


def picture(seed: int) -> RGBImage:
    values = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return RGBImage(values, f"picture {seed}")


def drawn(seed: int, tokens: int = 24) -> Request:
    sampling = Sampling(temperature=1.0, top_p=0.9, max_tokens=tokens, seed=seed)
    return Request(ask("What is this?"), (picture(seed % 3),), sampling)


@pytest.fixture(scope="module", params=["int8", "fp32"])
def engine(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Engine]:
    opened = open_engine(tiny, precision=request.param)
    yield opened
    opened.close()


def whole(engine: Engine, request: Request) -> tuple[str, Chunk]:
    (stream,) = engine.generate([request])
    return collect(stream)


def test_greedy_is_the_reference_engines(make_checkpoint: Callable[..., Path]) -> None:
    """fp32 = transformers, for each family, text and one, two and late images."""
    requests = [
        Request(ask("Who are you?", images=0), (), GREEDY),
        Request(ask("What is this?"), (picture(0),), GREEDY),
        Request(ask("Compare.", images=2), (picture(1), picture(2)), GREEDY),
        Request(
            Conversation((user("Hi"), assistant("Yes?"), user(ImageSlot(0), "And <image>?"))),
            (picture(1),),
            GREEDY,
        ),
    ]
    for family in FAMILIES:
        path, answers = make_checkpoint(family), []
        for name in ("torch", "openvino"):
            opened = open_engine(path, name, "fp32")
            answers.append([collect(stream) for stream in opened.generate(requests)])
            opened.close()
        assert answers[0] == answers[1], family


def test_same_seed_same_text_whatever_else_runs(engine: Engine) -> None:
    seeds = range(8)
    alone = [whole(engine, drawn(seed))[0] for seed in seeds]
    streams = engine.generate([drawn(seed) for seed in seeds])
    assert [collect(stream)[0] for stream in streams] == alone
    assert len(set(alone)) == len(alone)
    assert engine.info.reproducible


def test_streamed_is_whole_and_usage_counts(engine: Engine) -> None:
    request = Request(ask("What is this?"), (picture(0),), GREEDY)
    (stream,) = engine.generate([request])
    chunks = list(stream)
    heard: list[Chunk] = []
    (other,) = engine.generate([request])
    other.listen(heard.append)
    while not heard or heard[-1].finish is None:
        time.sleep(0.01)
    assert "".join(c.text for c in chunks) == "".join(c.text for c in heard)
    assert [c.finish for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len(chunks) > 4
    usage = chunks[-1].usage
    assert usage is not None and usage == heard[-1].usage
    assert usage.completion_tokens == 24
    assert usage.prompt_tokens > engine.info.image_tokens


def test_a_picture_matters_and_is_told_apart(engine: Engine) -> None:
    texts = {whole(engine, Request(ask("?"), (picture(i),), GREEDY))[0] for i in range(3)}
    assert len(texts) == 3


def test_a_stop_string_ends_the_answer(engine: Engine) -> None:
    request = Request(ask("Who?", images=0), (), Sampling(temperature=1.0, max_tokens=40, seed=5))
    text, _ = whole(engine, request)
    stop = text[5:8]
    cut, last = whole(
        engine,
        Request(request.conversation, (), Sampling(1.0, 0.7, 40, seed=5, stop=("never", stop))),
    )
    assert cut == text[: text.index(stop)]
    assert last.finish == "stop"


def test_cancel_ends_at_once_and_leaves_others_alone(engine: Engine) -> None:
    expected = whole(engine, drawn(1))[0]
    long, other = engine.generate([drawn(0, tokens=400), drawn(1)])
    chunks = iter(long)
    next(chunks)
    long.cancel()
    last = list(chunks)[-1]
    assert last.finish == "cancelled"
    assert last.usage is not None and 0 < last.usage.completion_tokens < 400
    assert collect(other)[0] == expected
    long.cancel()  # late, harmless


def test_requests_that_can_never_be_answered(engine: Engine) -> None:
    def refused(request: Request) -> str:
        with pytest.raises(NevaError) as caught:
            engine.generate([request])
        return str(caught.value)

    long = refused(Request(ask("a" * 500, images=0), (), GREEDY))
    assert "500" not in long and "512" in long and "lower max_tokens" not in long
    assert "lower max_tokens to" in refused(
        Request(ask("a" * 450, images=0), (), Sampling(max_tokens=100))
    )
    assert "image 2" in refused(Request(ask("?", images=2), (picture(0),), GREEDY))
    assert "no place" in refused(Request(ask("?", images=0), (picture(0),), GREEDY))
    for wrong in (
        Sampling(temperature=-1),
        Sampling(temperature=float("nan")),
        Sampling(top_p=0),
        Sampling(max_tokens=0),
        Sampling(seed=-1),
        Sampling(stop=("",)),
    ):
        refused(Request(ask("?", images=0), (), wrong))


def test_a_killed_process_is_started_again(tiny: Path) -> None:
    from neva.engine.openvino_engine import OpenVinoEngine

    engine = open_engine(tiny)
    assert isinstance(engine, OpenVinoEngine)
    expected = whole(engine, drawn(0))[0]
    (stream,) = engine.generate([drawn(0, tokens=400)])
    chunks = iter(stream)
    next(chunks)
    killed = engine.pid
    os.kill(killed, signal.SIGKILL)
    last = list(chunks)[-1]
    assert last.finish == "error" and last.error is not None and "ask once more" in last.error
    assert whole(engine, drawn(0))[0] == expected
    assert engine.pid != killed
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.generate([drawn(0)])


def test_the_engines_process_ends_with_its_parent(tiny: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from neva.engine import open_engine\n"
        "engine = open_engine(Path(sys.argv[1])); print(engine.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    made = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True)
    process = Path("/proc") / made.stdout.strip()
    assert made.stdout.strip().isdigit()
    deadline = time.monotonic() + 5
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not process.exists() or "Z (zombie)" in (process / "status").read_text()


def test_closing_ends_answers_under_way(tiny: Path) -> None:
    engine = open_engine(tiny)
    (stream,) = engine.generate([drawn(0, tokens=400)])
    engine.close()
    _, last = collect(stream)
    assert last.finish == "error" and last.error == "the engine was closed"


def test_a_small_cache_limits_the_length(make_checkpoint: Callable[..., Path]) -> None:
    engine = open_engine(make_checkpoint("llama", context=8192), cache_mib=1)
    with pytest.raises(PromptError, match=r"KV cache \(cache_mib\) is 2016: lower max_tokens"):
        engine.generate([drawn(0, tokens=3000)])
    # together they need more than there is: the pipeline preempts, and no text changes
    many = [drawn(seed, tokens=200) for seed in range(20)]
    tight = [collect(stream) for stream in engine.generate(many)]
    engine.close()
    assert sum(last.usage.prompt_tokens + last.usage.completion_tokens for _, last in tight) > 2016
    roomy = open_engine(make_checkpoint("llama", context=8192))
    assert [collect(stream) for stream in roomy.generate(many)] == tight
    roomy.close()


def test_the_next_turn_is_the_same_with_a_warm_cache(engine: Engine, tiny: Path) -> None:
    first = Request(ask("What is this?"), (picture(0),), GREEDY)
    answer, _ = whole(engine, first)
    turns = (*first.conversation.turns, assistant(answer), user("Sure?"))
    second = Request(Conversation(turns), first.images, GREEDY)
    warm, _ = whole(engine, second)
    cold = open_engine(tiny, precision=engine.info.precision)
    assert whole(cold, second)[0] == warm
    cold.close()


def test_an_unsupported_language_model_is_refused(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="--engine torch"):
        open_engine(make_checkpoint("llama", hidden_act="relu"))
    with pytest.raises(NevaError, match="int8-fast"):
        open_engine(make_checkpoint("llama"), precision="int3")
    with pytest.raises(NevaError, match="openvino, torch"):
        open_engine(make_checkpoint("llama"), "onnx")


def test_the_torch_engine_keeps_seeds_and_ends(tiny: Path) -> None:
    engine = open_engine(tiny, "torch")
    alone = [whole(engine, drawn(seed))[0] for seed in range(4)]
    streams = engine.generate([drawn(seed) for seed in range(4)])
    assert [collect(stream)[0] for stream in streams] == alone
    (stream,) = engine.generate([drawn(0, tokens=400)])
    chunks = iter(stream)
    next(chunks)
    stream.cancel()
    assert list(chunks)[-1].finish == "cancelled"
    with pytest.raises(PromptError):
        engine.generate([drawn(0, tokens=10_000)])
    engine.close()


def test_no_torch_is_imported(tiny: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import neva.nano\n"
        "from neva.engine import open_engine; open_engine(Path(sys.argv[1])).close()\n"
        "heavy = {'torch', 'transformers', 'openvino'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    command = [sys.executable, "-c", code, str(tiny)]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"
