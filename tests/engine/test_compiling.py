"""Grammars are compiled beside the batch: nobody waits for them, and what takes long is refused."""

import json
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from openvino import save_model

from neva.engine.confining import Confining
from neva.engine.grammar import SchemaError, schema_grammar
from neva.engine.grammars import Grammars, silence
from neva.engine.messages import Add
from neva.engine.openvino_engine import OpenVinoEngine, OpenVinoOptions
from neva.engine.protocol import Chunk, Request, Sampling, collect
from neva.engine.spelling import spelling_tokenizer
from neva.model.checkpoint import Checkpoint
from neva.prompts.conversation import ask

WORDS = 12_000
LONG = Request(ask("Go on.", images=0), sampling=Sampling(temperature=0, max_tokens=6000))


def heavy(name: str) -> str:
    """A grammar that takes a vocabulary of 12,000 words most of a second."""
    text = {"type": "string", "maxLength": 40}
    properties = {f"{name}{n}": text for n in range(3)}
    return schema_grammar({"type": "object", "properties": properties, "required": [*properties]})


def confined(grammar: str, **more: Any) -> Request:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=4, seed=3, grammar=grammar, **more)
    return Request(ask("Write.", images=0), sampling=sampling)


@pytest.fixture(scope="module")
def wide(make_checkpoint: Callable[..., Path]) -> Checkpoint:
    """A tiny model with a large vocabulary, for which compiling is work."""
    return Checkpoint.open(make_checkpoint("llama", words=WORDS, context=8192))


@pytest.fixture(scope="module")
def engine(wide: Checkpoint) -> Iterator[OpenVinoEngine]:
    opened = OpenVinoEngine(wide, "fp32", OpenVinoOptions(cache_mib=256))
    yield opened
    opened.close()


class Listened:
    """An answer under way, and when its pieces came."""

    def __init__(self, engine: OpenVinoEngine) -> None:
        (self.stream,) = engine.generate([LONG])
        self.times: list[float] = []
        self.begun = Event()
        self.stream.listen(self._heard)
        assert self.begun.wait(60)

    def _heard(self, chunk: Chunk) -> None:
        self.times.append(time.monotonic())
        if len(self.times) > 3:
            self.begun.set()

    def between(self, start: float, end: float) -> list[float]:
        """The gaps between the pieces of that time, its ends included."""
        inside = [moment for moment in self.times if start < moment < end]
        return list(np.diff([start, *inside, end]))


def test_anothers_tokens_keep_coming_while_a_schema_is_compiled(engine: OpenVinoEngine) -> None:
    other = Listened(engine)
    try:
        start = time.monotonic()
        (stream,) = engine.generate([confined(heavy("a"))])
        first = next(iter(stream))
        took = time.monotonic() - start
        gaps = other.between(start, start + took)
    finally:
        other.stream.cancel()
    assert first.text.startswith("{"), first
    assert took > 0.1, "or there was nothing to wait for"
    assert len(gaps) > 10, f"{len(gaps)} pieces in {took:.2f} s"
    assert max(gaps) < took / 2, f"{max(gaps):.2f} of {took:.2f} s without a piece"


def test_a_schema_is_compiled_once(engine: OpenVinoEngine) -> None:
    took = []
    for _ in range(3):
        start = time.process_time(), time.monotonic()
        text, last = collect(engine.generate([confined(heavy("b"))])[0])
        took.append(time.monotonic() - start[1])
        assert text.startswith("{") and last.finish in ("length", "stop")
    assert min(took[1:]) < took[0] / 3, took


def test_many_at_once_each_keep_their_own(engine: OpenVinoEngine) -> None:
    schemas = [{"enum": [f"only {n}"]} for n in range(12)]
    asked = [confined(schema_grammar(schema)) for schema in schemas]
    requests = [replace(one, sampling=replace(one.sampling, max_tokens=40)) for one in asked]
    for batch in (requests, requests[::-3]):
        for request, stream in zip(batch, engine.generate(batch), strict=True):
            text, last = collect(stream)
            assert last.finish == "stop", last.error
            assert json.loads(text) in schemas[requests.index(request)]["enum"]


def test_a_grammar_that_cannot_be_compiled_harms_nobody(engine: OpenVinoEngine) -> None:
    before, other = engine.pid, Listened(engine)
    _, last = collect(engine.generate([confined("root ::= undefined_rule")])[0])
    assert last.finish == "error" and last.asker and last.error is not None
    assert "simplify" in last.error and "/" not in last.error, "not the library's words"
    count = len(other.times)
    text, _ = collect(engine.generate([confined('root ::= "yes"')])[0])
    assert text == "yes" and engine.pid == before
    assert len(other.times) > count
    other.stream.cancel()


def test_who_leaves_while_it_is_compiled_holds_nobody_up(engine: OpenVinoEngine) -> None:
    for name in ("c", "d"):
        (stream,) = engine.generate([confined(heavy(name))])
        Thread(target=stream.cancel).start()
        assert collect(stream)[1].finish == "cancelled"
    text, _ = collect(engine.generate([confined('root ::= "no"')])[0])
    assert text == "no"


def test_what_takes_too_long_is_the_askers_fault(wide: Checkpoint) -> None:
    options = OpenVinoOptions(cache_mib=64, grammar_seconds=0.05)
    opened = OpenVinoEngine(wide, "fp32", options)
    try:
        grammar = heavy("e")
        _, last = collect(opened.generate([confined(grammar)])[0])
        assert last.finish == "error" and last.asker
        assert last.error is not None and "0.05 seconds" in last.error and "shorten" in last.error
        assert collect(opened.generate([replace(LONG, sampling=Sampling(max_tokens=3))])[0])[0]
        deadline = time.monotonic() + 60  # it is compiled in the end, and then it is known
        while last.finish == "error" and time.monotonic() < deadline:
            time.sleep(0.2)
            _, last = collect(opened.generate([confined(grammar)])[0])
        assert last.finish == "length"
    finally:
        opened.close()


def test_schemas_are_bounded_and_read_once() -> None:
    started = time.process_time()
    huge = {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(100_000)}}
    with pytest.raises(SchemaError, match="65,536 letters"):
        schema_grammar(huge)
    assert time.process_time() - started < 5
    circle: dict[str, Any] = {}
    circle["items"] = circle
    with pytest.raises(SchemaError, match="no JSON"):
        schema_grammar(circle)
    schema = {"enum": ["one", 2]}
    assert schema_grammar(schema) is schema_grammar(json.loads(json.dumps(schema)))


def test_what_was_compiled_is_forgotten_and_compiled_again(tmp_path: Path) -> None:
    """The compiler's own cache has no bound."""
    tokens = [bytes([letter]) for letter in range(256)] + [b""]
    save_model(silence(len(tokens)), tmp_path / "language.xml")
    grammars = Grammars(spelling_tokenizer(tokens, 256), tmp_path / "language.xml", most=3)

    def compiled(grammar: str) -> Exception | None:
        grammars.compile(grammar)
        error = None
        while grammars.asked is not None:
            assert select.select([grammars.descriptor], [], [], 60)[0]
            error = grammars.heard()
        return error

    names = [f'root ::= "{letter}"' for letter in "abcde"]
    assert [compiled(name) for name in names] == [None] * 5
    assert [grammars.knows(name) for name in names] == [False, False, False, True, True]
    assert isinstance(compiled("root ::= nothing"), RuntimeError)
    assert not grammars.knows("root ::= nothing")
    assert compiled(names[0]) is None and grammars.knows(names[0])


# Whose turn it is, without an engine


@dataclass
class Slow:
    """A compiler that is done when the test says so."""

    asked: str | None = None
    known: set[str] = field(default_factory=set)
    error: Exception | None = None

    def knows(self, grammar: str) -> bool:
        return grammar in self.known

    def compile(self, grammar: str) -> None:
        assert self.asked is None
        self.asked = grammar

    def heard(self) -> Exception | None:
        if self.error is None:
            self.known.add(str(self.asked))
        self.asked = None
        return self.error


@dataclass
class Turns:
    """A `Confining`, its compiler, and who has begun."""

    slow: Slow = field(default_factory=Slow)
    begun: list[int] = field(default_factory=list)
    seconds: float = 60.0
    overtake: float = 60.0

    def __post_init__(self) -> None:
        self.them = Confining(self.slow, self._begin, self.seconds, self.overtake)

    def _begin(self, request: Add, _: Any) -> bool:
        self.begun.append(request.key)
        return True

    def add(self, key: int, grammar: str) -> None:
        sampling = Sampling(grammar=grammar)
        self.them.add(Add(key, np.array([1]), (), sampling, frozenset()), {})


def test_one_compiles_or_one_begins_never_both() -> None:
    turns = Turns()
    turns.add(1, "a")
    turns.add(2, "b")
    turns.add(3, "a")
    assert (turns.slow.asked, turns.begun) == ("a", [])
    assert list(turns.them.heard()) == []
    assert (turns.begun, turns.slow.asked) == ([1, 3], None), "b waits for their first tokens"
    turns.them.stepped([1], [1, 3])
    assert turns.slow.asked is None and turns.them.unsettled
    turns.them.stepped([1, 3], [1, 3])
    assert turns.slow.asked == "b" and not turns.them.unsettled
    turns.add(4, "a")
    assert turns.begun == [1, 3], "known, but b is being compiled"
    assert list(turns.them.heard()) == []
    assert turns.begun == [1, 3, 2, 4] or turns.begun == [1, 3, 4, 2]


def test_a_stream_of_known_schemas_does_not_hold_up_a_new_one() -> None:
    turns = Turns(overtake=-1.0)
    turns.slow.known.add("a")
    turns.add(1, "a")
    turns.add(2, "b")
    turns.add(3, "a")
    assert (turns.begun, turns.slow.asked) == ([1], None), "3 must not overtake 2 any more"
    turns.them.stepped([1], [1])
    assert turns.slow.asked == "b"
    assert list(turns.them.heard()) == []
    assert turns.begun == [1, 2, 3]


def test_one_who_left_before_its_first_token_is_not_waited_for() -> None:
    turns = Turns()
    turns.slow.known.add("a")
    turns.add(1, "a")
    turns.add(2, "b")
    assert turns.begun == [1] and turns.them.unsettled and turns.slow.asked is None
    turns.them.stepped([], [])
    assert turns.slow.asked == "b"
    assert turns.them.cancel(2) and not turns.them.cancel(2)
    assert turns.them.patience is None


def test_who_waits_too_long_is_told_why() -> None:
    turns = Turns(seconds=0.0)
    turns.add(1, "a")
    turns.add(2, "b")
    assert turns.them.patience is not None
    own, others = turns.them.late()
    assert (own.key, own.asker) == (1, True) and "shorten" in own.sentence
    assert (others.key, others.asker) == (2, False) and "try again" in others.sentence
    assert turns.them.patience is None and turns.slow.asked == "a"


def test_a_failure_is_for_those_who_asked_for_it() -> None:
    turns = Turns(slow=Slow(error=RuntimeError("/build/xgrammar.cc: bad")))
    turns.add(1, "a")
    turns.add(2, "b")
    turns.add(3, "a")
    failed = list(turns.them.heard())
    assert [(one.key, one.asker) for one in failed] == [(1, True), (3, True)]
    assert "RuntimeError" in failed[0].sentence and "/build" not in failed[0].sentence
    assert turns.slow.asked == "b"
