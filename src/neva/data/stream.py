"""The resumable stream of batches: shuffled by seed, packed, images read ahead in threads.

The order of samples is one endless sequence: epoch after epoch, each drawn from (seed, epoch) in
the weights of its data sets (`neva.data.mix`). A step takes the next `batch_size` of it, and a rank
takes every `world`-th of those, so the cursor is one number, and a run that resumes on another
number of ranks sees every sample exactly once. Broken samples are skipped, counted and named, and
move the cursor like any other.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neva.data.batch import Batch, Loaded, Pictures, Problem, make_batch
from neva.data.mix import Mix, one_by_one
from neva.data.records import Record
from neva.data.samples import Encoding, encode_record
from neva.errors import DataError, NevaError

AHEAD = 2  # steps whose samples are read while the model works


class BatchStream:
    """Iterate over batches; `state_dict` after a batch says where to go on.

    `pictures` are those of all records, or a list with those of each data set. `mix` says how often
    a pass sees which records, once each if left out. `epochs` None is endless. `row_tokens` None
    packs a whole batch into one row. Close it, or use it in a `with` statement, to end its threads.
    """

    def __init__(
        self,
        records: Sequence[Record],
        pictures: Pictures | Sequence[Pictures | None] | None,
        encoding: Encoding,
        batch_size: int,
        row_tokens: int | None = None,
        *,
        mix: Mix | None = None,
        seed: int = 0,
        epochs: float | None = None,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        workers: int = 2,
    ) -> None:
        if not records:
            raise DataError("there are no records to learn from; check the training file")
        self.records, self.pictures, self.encoding = records, pictures, encoding
        self.batch_size, self.row_tokens = batch_size, row_tokens
        self.seed, self.shuffle, self.rank, self.world = seed, shuffle, rank, world
        self.mix = mix or one_by_one([len(records)])
        if sum(self.mix.sizes) != len(records):
            raise ValueError(f"the mix is of {sum(self.mix.sizes)} records, not {len(records)}")
        self.end = None if epochs is None else round(epochs * self.mix.length)
        self.cursor = 0  # samples handed out, over all ranks and epochs
        self.skipped: list[Problem] = []  # by this rank, since this stream was made
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="neva-data")
        self._order = lru_cache(maxsize=2)(self._permutation)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the cursor on. Only one iteration at a time."""
        waiting: deque[tuple[int, list[Future[Loaded | Problem]]]] = deque()
        ahead = self.cursor
        try:
            while True:
                while len(waiting) <= AHEAD and (self.end is None or ahead < self.end):
                    stop = ahead + self.batch_size
                    stop = stop if self.end is None else min(stop, self.end)
                    mine = range(ahead + self.rank, stop, self.world)
                    waiting.append((stop, [self._pool.submit(self._load, at) for at in mine]))
                    ahead = stop
                if not waiting:
                    return
                stop, futures = waiting.popleft()
                entries = [future.result() for future in futures]
                batch = make_batch(entries, self.row_tokens, stop / self.mix.length)
                self.cursor = stop
                self.skipped.extend(batch.problems)
                yield batch
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: fits JSON. Taken between batches."""
        return {"cursor": self.cursor, "seed": self.seed, "records": self._fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, on any number of ranks. Raises DataError if the data is other."""
        here = self.state_dict()
        for name, what in (("seed", "seed"), ("records", "training data")):
            if state[name] != here[name]:
                raise DataError(f"the run began with another {what}; resume it with the same")
        self.cursor = int(state["cursor"])

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(f"{record.id}\0{record.images}\n".encode())
        if not self.mix.plain:
            digest.update(f"{self.mix.sizes}{self.mix.takes}".encode())
        return digest.hexdigest()

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return self.mix.order(self.seed, epoch, self.shuffle)

    def _load(self, at: int) -> Loaded | Problem:
        """The sample at place `at` of the endless sequence."""
        epoch, place = divmod(at, self.mix.length)
        number = int(self._order(epoch)[place])
        record, pictures = self.records[number], self._pictures_of(self.records[number])
        try:
            sample = encode_record(record, self.encoding)
            if self.row_tokens is not None and len(sample) > self.row_tokens:
                raise DataError(f"it has {len(sample)} tokens, a row only {self.row_tokens}")
            if sample.images and pictures is None:
                raise DataError("it has images; give their place with --images")
            shown = [pictures(name) for name in sample.images] if pictures else []
        except NevaError as error:
            return Problem(record.id, str(error), record=number)
        return Loaded(sample, tuple(shown))

    def _pictures_of(self, record: Record) -> Pictures | None:
        if isinstance(self.pictures, Sequence):
            return self.pictures[record.dataset]
        return self.pictures

    def counts(self) -> list[int]:
        """Samples of each data set that were handed out, over all ranks and epochs."""
        return self.mix.counts(self.seed, self.cursor, self.shuffle)
