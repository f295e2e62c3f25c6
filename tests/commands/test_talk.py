"""The conversation's memory and its Ctrl-C, with an engine that can be held in mid-answer."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from threading import Event, Thread

import pytest
from rich.console import Console

from neva.commands.talk import Talk
from neva.engine.protocol import Chunk, EngineInfo, Request, Sampling, Stream, Usage
from neva.engine.stream import ChunkStream
from neva.errors import PromptError
from neva.images import read_image


class Slow:
    """Says "one", then waits to be cancelled where the question asks it to; else says "two"."""

    info = EngineInfo("slow", "slow", "exact", 64, 4, True)

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Stream]:
        return [self.start(request) for request in requests]

    def start(self, request: Request) -> Stream:
        question = request.conversation.turns[-1].text
        if "too long" in question:
            raise PromptError("the conversation is longer than the context.")
        self.asked.append(request)
        cancelled = Event()
        stream = ChunkStream(cancelled.set)
        Thread(target=self.work, args=(stream, question, cancelled), daemon=True).start()
        return stream

    def work(self, stream: ChunkStream, question: str, cancelled: Event) -> None:
        stream.push(Chunk("one "))
        if "fail" in question:
            stream.push(Chunk("", "error", Usage(1, 1), "the engine restarted; ask again."))
        elif "wait" in question:
            time.sleep(0.1)  # until the main thread listens
            os.kill(os.getpid(), signal.SIGINT)
            assert cancelled.wait(10)
            stream.push(Chunk("", "cancelled", Usage(1, 1)))
        else:
            stream.push(Chunk("two", "stop", Usage(1, 2)))

    def close(self) -> None:
        return None


def said(engine: Slow) -> list[tuple[str, ...]]:
    """The texts of every request's turns."""
    return [tuple(turn.text for turn in one.conversation.turns) for one in engine.asked]


@pytest.fixture
def talk() -> Talk:
    return Talk(Slow(), Sampling(), None, Console(file=StringIO(), width=200))


@pytest.fixture
def listening() -> Iterator[None]:
    """SIGINT interrupts, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def heard(talk: Talk) -> str:
    assert isinstance(talk.console.file, StringIO)
    return talk.console.file.getvalue()


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(
    talk: Talk, listening: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("please wait\nnext\n"))
    talk.run(None)
    assert capsys.readouterr().out == "one \none two\n"
    assert isinstance(talk.engine, Slow)
    assert said(talk.engine)[-1] == ("please wait", "one", "next")


@pytest.mark.parametrize("bad", ["fail", "it is too long"])
def test_a_question_that_fails_leaves_the_rest_as_it_was(talk: Talk, bad: str) -> None:
    for line in ("first", bad, "second"):
        talk.take(line)
    assert isinstance(talk.engine, Slow)
    assert said(talk.engine)[-1] == ("first", "one two", "second")
    assert "ask again" in heard(talk) or "longer than the context" in heard(talk)


def test_pictures_go_with_the_next_question_and_keep_their_places(
    talk: Talk, picture: Path
) -> None:
    for line in (f"/image {picture}", f"/image {picture}", "what?", f"/image {picture}", "and?"):
        talk.take(line)
    assert isinstance(talk.engine, Slow)
    first, second = talk.engine.asked
    assert [slot.index for slot in first.conversation.slots] == [0, 1]
    assert [slot.index for slot in second.conversation.slots] == [0, 1, 2]
    assert second.conversation.turns[0] == first.conversation.turns[0]
    assert [image.digest for image in second.images] == [read_image(picture).digest] * 3
    talk.take("/reset")
    talk.take("hello")
    assert said(talk.engine)[-1] == ("hello",)
    assert talk.engine.asked[-1].images == ()


def test_escape_sequences_do_not_reach_the_terminal(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    from neva.commands.talk import put

    put("a\x1b]0;evil\x07b\u200dc\n\t")
    assert capsys.readouterr().out == "a]0;evilb\u200dc\n\t"


def test_a_slip_of_the_command_is_said(talk: Talk) -> None:
    for line in ("/imgae x", "/image", "/help", "/quit"):
        talk.take(line)
    assert "/imgae is no command" in heard(talk)
    assert "/image needs a path" in heard(talk)
    assert "/reset" in heard(talk)
    assert talk.ended


def test_a_pipe_is_told_by_its_end_that_a_question_failed(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lines, well in (("first\nsecond\n", True), ("first\nfail\nsecond\n", False)):
        monkeypatch.setattr(sys, "stdin", StringIO(lines))
        assert talk.run(None) is well
    assert isinstance(talk.engine, Slow)
    assert said(talk.engine)[-1][-3:] == ("first", "one two", "second"), "the others are answered"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_line_that_is_not_utf8_is_called_so(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    lines = BytesIO("a café?\n".encode("latin-1") + "a café!\n".encode())
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(lines, "utf-8", errors))
    assert not talk.run(None)
    assert heard(talk) == "the line is not UTF-8: save or send it as UTF-8.\n"
    assert isinstance(talk.engine, Slow)
    assert said(talk.engine) == [("a café!",)]
