"""Ask an engine all questions of a task, several at once, and judge the answers.

The engine batches: the runner only keeps enough requests under way. Every answer is kept in a
partial file as it comes, so that a run that was cut off goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue

from neva.engine.protocol import Chunk, Engine, Request, Sampling, Stream
from neva.errors import DataError, EngineError, ImageError, NevaError
from neva.evaluate.partial import Answer, Partial
from neva.evaluate.task import Item, Judged, Task
from neva.images import read_image
from neva.images.image import RGBImage
from neva.prompts import ask

Watch = Callable[[Judged, int], None]


def unwatched(judged: Judged, total: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Asking:
    """How every question is put: greedy, with this suffix and this length of answer."""

    suffix: str
    max_tokens: int
    system: str | None = None
    in_flight: int = 16


def run(
    task: Task,
    items: Sequence[Item],
    engine: Engine,
    asking: Asking,
    partial: Partial,
    watch: Watch = unwatched,
) -> list[Judged]:
    """Judged items in the order of `items`; `watch` sees each as it comes, and how many.

    Raises EngineError when the engine fails; answers so far are in `partial`.
    """
    judged: dict[str, Judged] = {}
    done = {item.id: partial.answers[item.id] for item in items if item.id in partial.answers}

    def take(item: Item, answer: Answer) -> None:
        judged[item.id] = judge(task, item, answer)
        watch(judged[item.id], len(items))

    for item in items:
        if item.id in done:
            take(item, done[item.id])
    open_items = [item for item in items if item.id not in done]
    for item, answer in answers(engine, open_items, asking):
        partial.add(answer)
        take(item, answer)
    return [judged[item.id] for item in items]


def judge(task: Task, item: Item, answer: Answer) -> Judged:
    """Credit an answer; one that could not be asked earns nothing."""
    if answer.error is not None:
        return Judged(item, "", "", 0.0, answer.error)
    read, credit = task.judge(item, answer.text)
    return Judged(item, answer.text, read, credit)


def answers(engine: Engine, items: Sequence[Item], asking: Asking) -> Iterator[tuple[Item, Answer]]:
    """Answers as they finish, with at most `in_flight` requests under way."""
    make = requests(asking)
    finished: SimpleQueue[tuple[Item, Answer | EngineError]] = SimpleQueue()
    flying: dict[str, Stream] = {}
    waiting = iter(items)
    try:
        while True:
            while len(flying) < asking.in_flight and (item := next(waiting, None)) is not None:
                request = make(item)
                try:
                    stream = engine.generate([request])[0]
                except EngineError:
                    raise
                except NevaError as error:  # this question only: longer than the context
                    finished.put((item, Answer(item.id, "", str(error))))
                    continue
                flying[item.id] = stream
                stream.listen(Listener(item, finished))
            if not flying and finished.empty():
                return
            item, answer = finished.get()
            flying.pop(item.id, None)
            if isinstance(answer, EngineError):
                raise answer
            yield item, answer
    finally:
        for stream in flying.values():
            with suppress(NevaError):
                stream.cancel()


@dataclass
class Listener:
    """Collect one stream's chunks; the last one puts the whole answer into the queue."""

    item: Item
    finished: SimpleQueue[tuple[Item, Answer | EngineError]]
    text: str = ""

    def __call__(self, chunk: Chunk) -> None:
        """Hear one chunk, on the engine's thread."""
        self.text += chunk.text
        if chunk.finish == "error" and chunk.asker:  # this question only
            self.finished.put((self.item, Answer(self.item.id, "", chunk.error or "refused")))
        elif chunk.finish in ("error", "cancelled"):
            why = chunk.error or f"the engine ended the answer: {chunk.finish}"
            self.finished.put((self.item, EngineError(f"question {self.item.id!r}: {why}")))
        elif chunk.finish is not None:
            self.finished.put((self.item, Answer(self.item.id, self.text)))


def requests(asking: Asking) -> Callable[[Item], Request]:
    """A maker of requests that reads a picture once for the questions that follow each other."""
    look = lru_cache(maxsize=asking.in_flight)(read_image)

    def make(item: Item) -> Request:
        pictures = (look_at(item, look),) if item.image is not None else ()
        conversation = ask(item.question + asking.suffix, len(pictures), asking.system)
        sampling = Sampling(temperature=0.0, max_tokens=asking.max_tokens)
        return Request(conversation, pictures, sampling)

    return make


def look_at(item: Item, look: Callable[[Path], RGBImage]) -> RGBImage:
    """The item's picture. A benchmark with a broken picture is not the benchmark: DataError."""
    assert item.image is not None
    try:
        return look(item.image)
    except ImageError as error:
        raise DataError(
            f"question {item.id!r}: {error} (the run can go on once the right file is there)"
        ) from None
