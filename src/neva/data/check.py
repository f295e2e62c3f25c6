"""Look at all of a training set before a run: records, images, lengths, what there is to learn.

A missing or broken image that stops a run hours in is the commonest complaint about training on
other people's data. Every problem is listed with its sample, and none stops the check.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neva.data.batch import Problem
from neva.data.records import Flaw, Record
from neva.data.samples import Encoding, Sample, encode_record
from neva.errors import DataError, ImageError
from neva.images import Limits, read_image

CHUNK = 256  # images in flight
Progress = Callable[[int, int], None]
"""Called with (done, total)."""


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
class CheckReport:
    """What a training set holds, and what is wrong with it."""

    records: int
    broken: int
    """Records with at least one problem; a run skips them."""
    text_only: int
    images: int
    """Different image files named."""
    smallest: tuple[int, int] | None
    """(width, height) of the image with the fewest pixels."""
    largest: tuple[int, int] | None
    lengths: Lengths | None
    """None without a checkpoint, whose tokenizer and template they need."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain values."""
        return {"ok": self.ok, **asdict(self)}


def check(
    entries: Sequence[Record | Flaw],
    images: Path | None,
    encoding: Encoding | None = None,
    *,
    limits: Limits = Limits(),
    workers: int = 2,
    progress: Progress | None = None,
) -> CheckReport:
    """Verify records (of `scan_records`): images exist and decode, lengths fit, answers remain.

    `images` is their folder. Every image is decoded once, in `workers` threads.
    """
    records = [entry for entry in entries if isinstance(entry, Record)]
    names = list(dict.fromkeys(name for record in records for name in record.images))
    told = _Told(progress, len(names) + (len(records) if encoding else 0))
    looks = dict(zip(names, _look(names, images, limits, workers, told), strict=True))
    problems: list[Problem] = [
        Problem(entry.id, entry.sentence) for entry in entries if isinstance(entry, Flaw)
    ]
    samples: list[Sample] = []
    broken = len(problems)
    for record in records:
        found = [
            Problem(record.id, look, name)
            for name in dict.fromkeys(record.images)
            if isinstance(look := looks[name], str)
        ]
        if encoding is not None:
            found.extend(_encode(record, encoding, samples))
            told.step()
        problems.extend(found)
        broken += bool(found)
    sizes = sorted(
        (look for look in looks.values() if not isinstance(look, str)), key=lambda s: s[0] * s[1]
    )
    return CheckReport(
        records=len(entries),
        broken=broken,
        text_only=sum(not record.images for record in records),
        images=len(names),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        lengths=_lengths(samples) if encoding else None,
        problems=tuple(problems),
    )


class _Told:
    """Counts steps for the caller's progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _look(
    names: Sequence[str], images: Path | None, limits: Limits, workers: int, told: _Told
) -> Iterator[tuple[int, int] | str]:
    """For every name its image's size, or the sentence about what is wrong with it."""

    def look(name: str) -> tuple[int, int] | str:
        if images is None:
            return "it has images; give their folder with --images"
        try:
            return read_image(images / name, limits).size
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(names), CHUNK):
            for found in pool.map(look, names[start : start + CHUNK]):
                told.step()
                yield found


def _encode(record: Record, encoding: Encoding, samples: list[Sample]) -> list[Problem]:
    try:
        samples.append(encode_record(record, encoding))
    except DataError as error:
        return [Problem(record.id, str(error))]
    return []


def _lengths(samples: Sequence[Sample]) -> Lengths:
    return Lengths(
        samples=len(samples),
        tokens=sum(map(len, samples)),
        longest=max(map(len, samples), default=0),
        supervised=sum(sum(sample.encoded.supervised) for sample in samples),
        cut=sum(sample.cut > 0 for sample in samples),
    )
