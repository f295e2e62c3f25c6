"""Samples, packing and the stream: nothing lost, nothing twice, resumed = uninterrupted."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import NAMES, SIZE

from neva.data import (
    Batch,
    BatchStream,
    Encoding,
    PreparedImages,
    Record,
    Row,
    Sample,
    encode_record,
    pack,
)
from neva.errors import DataError
from neva.prompts import Conversation, Encoded, ImageSlot, assistant, encode, user


def record(number: int, images: int = 1) -> Record:
    slots = [ImageSlot(i) for i in range(images)]
    told = Conversation((user(*slots, "\nWhat?"), assistant("A" * (1 + number % 7))))
    names = tuple(NAMES[(number + i) % len(NAMES)] for i in range(images))
    return Record(f"r{number}", names, told, number + 1)


RECORDS = [record(number, images=number % 3) for number in range(23)]


def stream(
    records: Sequence[Record], folder: PreparedImages, encoding: Encoding, **more: Any
) -> Any:
    return BatchStream(records, folder, encoding, **{"batch_size": 4, "row_tokens": 200, **more})


def documents(row: Row) -> Iterator[tuple[str, tuple[int, ...]]]:
    for id, (start, end) in zip(row.sample_ids, itertools.pairwise(row.cu_seqlens), strict=True):
        yield id, tuple(row.ids[start:end].tolist())


def same(one: Batch, other: Batch) -> bool:
    return len(one.rows) == len(other.rows) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one.rows, other.rows, strict=True)
        for name in ("ids", "positions", "cu_seqlens", "supervised", "images")
    )


def test_samples_name_their_images(encoding: Encoding) -> None:
    told = Conversation((user(ImageSlot(1), " or ", ImageSlot(0)), assistant("No")))
    sample = encode_record(Record("a", ("x", "y"), told, 1), encoding)
    assert sample.images == ("y", "x")  # in the order of their tokens
    assert sample.cut == 0 and len(sample.encoded.images) == 2


def test_samples_are_cut_or_refused(encoding: Encoding) -> None:
    told = Conversation(
        (user(ImageSlot(0), "Q"), assistant("A"), user(ImageSlot(1), "Q" * 50), assistant("A"))
    )
    two = Record("two", ("x", "y"), told, 1)
    whole = encode_record(two, encoding)
    cut = encode_record(two, dataclasses.replace(encoding, max_length=len(whole) - 40))
    assert cut.images == ("x",) and cut.cut == len(whole) - len(cut)
    with pytest.raises(DataError, match=r"'two' has no answer to learn .* 9 allowed"):
        encode_record(two, dataclasses.replace(encoding, max_length=9))


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(30, 60))
@settings(max_examples=80, deadline=None)
def test_packing_loses_nothing(lengths: list[int], room: int) -> None:
    samples = [
        Sample(str(i), Encoded((i,) * n, (True,) * n, ()), (f"{i}.png",), 0)
        for i, n in enumerate(lengths)
    ]
    rows = pack(samples, room)
    assert sorted(m for row in rows for m in row.members) == list(range(len(samples)))
    assert all(len(row.ids) <= room for row in rows)
    fullest = sum(lengths) / room
    assert len(rows) <= max(1, 2 * fullest) or len(rows) <= 1
    for row in rows:
        assert row.cu_seqlens[0] == 0 and row.cu_seqlens[-1] == len(row.ids)
        for member, (start, end) in zip(
            row.members, itertools.pairwise(row.cu_seqlens), strict=True
        ):
            assert (row.ids[start:end] == member).all() and end - start == lengths[member]
            assert row.positions[start:end].tolist() == list(range(end - start))
            assert row.supervised[start:end].tolist() == [False] + [True] * (end - start - 1)
        assert row.image_names == tuple(f"{member}.png" for member in row.members)


def test_a_sample_longer_than_a_row() -> None:
    long = Sample("long", Encoded((1,) * 9, (True,) * 9, ()), (), 0)
    with pytest.raises(DataError, match="'long' has 9 tokens, more than the 8"):
        pack([long], 8)
    assert len(pack([long, long])) == 1


def test_rows_hold_what_the_records_say(folder: PreparedImages, encoding: Encoding) -> None:
    by_id = {r.id: r for r in RECORDS}
    with stream(RECORDS, folder, encoding, epochs=1) as batches:
        seen = 0
        for batch in batches:
            for row in batch.rows:
                names = [n for id in row.sample_ids for n in by_id[id].images]
                if names:
                    expected = np.stack([folder(name).square for name in names])
                    assert np.array_equal(row.images, expected)
                    assert row.images.shape[1:] == (SIZE, SIZE, 3)
                    assert row.image_digests == tuple(folder(name).digest for name in names)
                else:
                    assert row.images is None
                for id, ids in documents(row):
                    told = by_id[id].conversation
                    how = (encoding.template, encoding.tokenizer, encoding.image_token_id, 4)
                    assert ids == encode(told, *how).ids
                    seen += 1
    assert seen == len(RECORDS)


def test_an_epoch_is_every_sample_once_and_epochs_differ(
    folder: PreparedImages, encoding: Encoding
) -> None:
    with stream(RECORDS, folder, encoding, epochs=3) as batches:
        ids = [id for batch in batches for id in sorted(batch.sample_ids)]
    assert len(ids) == 3 * 23
    with stream(RECORDS, folder, encoding, epochs=3, batch_size=1) as batches:
        singles = [id for batch in batches for id in batch.sample_ids]
    epochs = [singles[start : start + 23] for start in (0, 23, 46)]
    assert all(sorted(epoch) == sorted(r.id for r in RECORDS) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [sorted(singles[i : i + 4]) for i in range(0, 69, 4)] == [
        sorted(ids[i : i + 4]) for i in range(0, 69, 4)
    ]


def test_seed_and_shuffle(folder: PreparedImages, encoding: Encoding) -> None:
    def order(**more: Any) -> list[str]:
        with stream(RECORDS, folder, encoding, epochs=1, batch_size=1, **more) as batches:
            return [id for batch in batches for id in batch.sample_ids]

    assert order(seed=1) == order(seed=1) != order(seed=2)
    assert order(shuffle=False) == [r.id for r in RECORDS]


@pytest.mark.parametrize("stop", [1, 3, 6, 9])
def test_resumed_is_uninterrupted(stop: int, folder: PreparedImages, encoding: Encoding) -> None:
    with stream(RECORDS, folder, encoding, epochs=2, seed=5) as batches:
        whole = list(batches)
    with stream(RECORDS, folder, encoding, epochs=2, seed=5) as batches:
        first = list(itertools.islice(batches, stop))
        state = batches.state_dict()
    with stream(RECORDS, folder, encoding, epochs=2, seed=5) as batches:
        batches.load_state_dict(state)
        rest = list(batches)
    assert len(first) + len(rest) == len(whole)
    assert all(map(same, whole, [*first, *rest]))


@pytest.mark.parametrize("worlds", [(1, 3), (3, 1), (2, 4)])
def test_another_number_of_ranks_loses_and_repeats_nothing(
    worlds: tuple[int, int], folder: PreparedImages, encoding: Encoding
) -> None:
    before, after = worlds

    def ranks(world: int, steps: int | None, state: dict[str, Any] | None) -> tuple[Any, list[str]]:
        seen: list[str] = []
        for rank in range(world):
            with stream(RECORDS, folder, encoding, epochs=1, rank=rank, world=world) as batches:
                if state:
                    batches.load_state_dict(state)
                part = [id for b in itertools.islice(batches, steps) for id in b.sample_ids]
                seen.extend(part)
                last = batches.state_dict()
        return last, seen

    state, first = ranks(before, 2, None)
    _, rest = ranks(after, None, state)
    assert len(first) == 8
    assert sorted(first + rest) == sorted(r.id for r in RECORDS)


def test_broken_samples_are_skipped_counted_and_named(
    folder: PreparedImages, encoding: Encoding, pictures: Path
) -> None:
    broken = [
        dataclasses.replace(record(0), id="corrupt", images=("corrupt.png",)),
        dataclasses.replace(record(0), id="missing", images=("none.png",)),
        dataclasses.replace(record(0), id="silent", conversation=Conversation((user("?"),))),
    ]
    with stream([*RECORDS, *broken], folder, encoding, epochs=1, batch_size=5) as batches:
        good = [id for batch in batches for id in batch.sample_ids]
        problems = {problem.sample: problem.sentence for problem in batches.skipped}
    assert sorted(good) == sorted(r.id for r in RECORDS)
    assert problems.keys() == {"corrupt", "missing", "silent"}
    assert str(pictures / "corrupt.png") in problems["corrupt"]
    assert "does not exist" in problems["missing"] and "no answer" in problems["silent"]


def test_a_batch_of_broken_samples_has_no_rows(folder: PreparedImages, encoding: Encoding) -> None:
    broken = dataclasses.replace(record(0), images=("none.png",))
    with stream([broken], folder, encoding, epochs=2) as batches:
        [batch] = batches
    assert batch.rows == () and len(batch.problems) == 2 and batch.targets == 0


def test_resuming_other_data_is_refused(folder: PreparedImages, encoding: Encoding) -> None:
    with stream(RECORDS, folder, encoding) as batches:
        state = batches.state_dict()
    for records, seed in ((RECORDS[1:], 0), (RECORDS, 1)):
        with stream(records, folder, encoding, seed=seed) as batches, pytest.raises(DataError):
            batches.load_state_dict(state)


def test_an_endless_stream_reads_only_a_little_ahead(
    folder: PreparedImages, encoding: Encoding
) -> None:
    read: list[str] = []

    class Counting:
        def __call__(self, name: str) -> Any:
            read.append(name)
            return folder(name)

    with BatchStream([record(i) for i in range(9)], Counting(), encoding, 3) as batches:
        next(iter(batches))
    assert 3 <= len(read) <= 9


def test_images_without_a_folder(encoding: Encoding) -> None:
    with BatchStream([record(1)], None, encoding, 1, epochs=1) as batches:
        [batch] = batches
    assert "give their place" in batch.problems[0].sentence
    with pytest.raises(DataError, match="no records"):
        BatchStream([], None, encoding, 1)
