"""Look at all of a training set before a run: records, images, lengths, what there is to learn.

A missing or broken image that stops a run hours in is the commonest complaint about training on
other people's data. Every problem is listed with its sample, and none stops the check. Images and
texts are looked at by several threads; of samples only numbers are kept, so size does not matter.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from neva.data.batch import Problem
from neva.data.records import Flaw, Record
from neva.data.samples import Encoding, encode_record
from neva.data.stores import Folder, ImageStore
from neva.errors import DataError, ImageError
from neva.images import Limits

CHUNK = 256  # images or records in flight
Progress = Callable[[int, int], None]
"""Called with (done, total)."""
Size = tuple[int, int]
"""(width, height)"""
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Lengths:
    """Tokens of the usable samples, images expanded and long samples cut."""

    samples: int
    tokens: int
    longest: int
    supervised: int
    cut: int
    """Samples that were longer than allowed."""


@dataclass(frozen=True)
class SetReport:
    """One of several data sets."""

    name: str
    records: int
    broken: int


@dataclass(frozen=True)
class CheckReport:
    """What a training set holds, and what is wrong with it."""

    records: int
    broken: int
    """Records with at least one problem; a run skips them."""
    text_only: int
    images: int
    """Different image files named."""
    smallest: Size | None
    """(width, height) of the image with the fewest pixels."""
    largest: Size | None
    lengths: Lengths | None
    """None without a checkpoint, whose tokenizer and template they need."""
    datasets: tuple[SetReport, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain values."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class _Encoded:
    """What is kept of a sample."""

    length: int
    supervised: int
    cut: int


def check(
    entries: Sequence[Record | Flaw],
    images: Path | Sequence[ImageStore | None] | None,
    encoding: Encoding | None = None,
    *,
    names: Sequence[str] = ("data",),
    limits: Limits = Limits(),
    workers: int = 2,
    progress: Progress | None = None,
) -> CheckReport:
    """Verify records (of `scan_records`): images exist and decode, lengths fit, answers remain.

    `images` is their folder, or a store for each data set, whose `names` are for the report. Every
    image is decoded once.
    """
    stores = (
        images
        if isinstance(images, Sequence)
        else [Folder(images) if images else None] * len(names)
    )
    records = [entry for entry in entries if isinstance(entry, Record)]
    places = list(dict.fromkeys((r.dataset, name) for r in records for name in r.images))
    told = _Told(progress, len(places) + (len(records) if encoding else 0))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = _in_chunks(pool, lambda place: _look(stores, place, limits), places, told)
        looks = dict(zip(places, found, strict=True))
        samples: Iterable[_Encoded | str | None] = [None] * len(records)
        if encoding is not None:
            samples = list(_in_chunks(pool, lambda r: _encode(r, encoding), records, told))
    problems = {id(e): [Problem(e.id, e.sentence)] for e in entries if isinstance(e, Flaw)}
    for record, sample in zip(records, samples, strict=True):
        wrong = [
            Problem(record.id, look, name)
            for name in dict.fromkeys(record.images)
            if isinstance(look := looks[record.dataset, name], str)
        ]
        if isinstance(sample, str):
            wrong.append(Problem(record.id, sample))
        if wrong:
            problems[id(record)] = wrong
    sizes = sorted((s for s in looks.values() if not isinstance(s, str)), key=lambda s: s[0] * s[1])
    return CheckReport(
        records=len(entries),
        broken=len(problems),
        text_only=sum(not record.images for record in records),
        images=len(places),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        lengths=_lengths([s for s in samples if isinstance(s, _Encoded)]) if encoding else None,
        datasets=tuple(_by_set(entries, problems, names)),
        problems=tuple(problem for wrong in problems.values() for problem in wrong),
    )


class _Told:
    """Counts steps for the caller's progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _in_chunks(
    pool: ThreadPoolExecutor, work: Callable[[A], B], items: Sequence[A], told: _Told
) -> Iterator[B]:
    """`work` of every item, in order, a chunk at a time so that little is in memory."""
    for start in range(0, len(items), CHUNK):
        for result in pool.map(work, items[start : start + CHUNK]):
            told.step()
            yield result


def _look(
    stores: Sequence[ImageStore | None], place: tuple[int, str], limits: Limits
) -> Size | str:
    """An image's size, or the sentence about what is wrong with it."""
    store = stores[place[0]]
    if store is None:
        return "it has images; give their place with --images"
    try:
        return store.read(place[1], limits).size
    except ImageError as error:
        return str(error)


def _encode(record: Record, encoding: Encoding) -> _Encoded | str:
    """A sample's numbers, or why there is none."""
    try:
        sample = encode_record(record, encoding)
    except DataError as error:
        return str(error)
    return _Encoded(len(sample), sum(sample.encoded.supervised), sample.cut)


def _lengths(samples: Sequence[_Encoded]) -> Lengths:
    return Lengths(
        samples=len(samples),
        tokens=sum(sample.length for sample in samples),
        longest=max((sample.length for sample in samples), default=0),
        supervised=sum(sample.supervised for sample in samples),
        cut=sum(sample.cut > 0 for sample in samples),
    )


def _by_set(
    entries: Sequence[Record | Flaw], problems: dict[int, list[Problem]], names: Sequence[str]
) -> Iterator[SetReport]:
    for place, name in enumerate(names):
        ours = [entry for entry in entries if entry.dataset == place]
        yield SetReport(name, len(ours), sum(id(entry) in problems for entry in ours))
