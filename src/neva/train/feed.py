"""Training files -> the steps of a run: rows as tensors, images or cached features, a cursor.

This is where a run meets `neva.data`; which records there are is `neva.train.intake`'s.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neva.data.batch import Batch, Picture, Pictures, PreparedImages, Problem, Row
from neva.data.datasets import Dataset
from neva.data.records import Flaw, Record
from neva.data.samples import Encoding
from neva.data.stores import Folder, ImageStore
from neva.data.stream import BatchStream
from neva.errors import DataError, ImageError
from neva.model import Checkpoint, DatasetUsed
from neva.model.arrays import as_tensor
from neva.model.forward import PackedInputs
from neva.prompts import TEMPLATES, Template
from neva.train.features import cached_features
from neva.train.intake import Intake
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe
from neva.train.tower import Tower

ENOUGH_SEEN = 200  # samples before the share of broken ones is judged


@dataclass(frozen=True)
class Step:
    """What one optimiser step learns from."""

    rows: tuple[PackedInputs, ...]
    sample_ids: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    """Samples that were skipped for the first time, and why."""


@dataclass
class Feed:
    """The steps of a run. Open, attach, then `next_step` until the run is over."""

    recipe: Recipe
    parent: Checkpoint
    intake: Intake
    template: Template
    skipped: int = 0
    """Samples that were skipped so far, on all ranks."""
    bad: set[int] = field(default_factory=set)
    """Records that were skipped, by their places among `records` and, after these, `validation`."""
    fresh: list[Problem] = field(default_factory=list)
    """What was found wrong with held-out records since somebody asked; see `take_fresh`."""

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        parent: Checkpoint,
        data: Sequence[Path | str | Dataset],
        images: Path | str | Sequence[Path | str] | None,
        licences: Sequence[str] = (),
    ) -> "Feed":
        """Read and check the training data; DataError names file, record and remedy.

        `data`, `images` and `licences` are as in `neva.data.datasets.find_datasets`.
        """
        template = template_of(recipe, parent)
        return cls(recipe, parent, Intake.open(recipe, data, images, licences), template)

    @property
    def records(self) -> list[Record]:
        """What is learned from."""
        return self.intake.records

    @property
    def validation(self) -> list[Record]:
        """What is held out."""
        return self.intake.validation

    @property
    def flaws(self) -> list[Flaw]:
        """Records that cannot be read."""
        return self.intake.flaws

    def unreadable(self) -> list[Problem]:
        """The flaws, as what is said of a sample that is skipped: with file and place."""
        data = self.data
        return [
            Problem(flaw.id, f"{data[flaw.dataset]} (number {flaw.line}): {flaw.sentence}")
            for flaw in self.flaws
        ]

    @property
    def data(self) -> tuple[str, ...]:
        """The training files."""
        return tuple(one.path for one in self.intake.datasets)

    @property
    def sha256(self) -> tuple[str, ...]:
        """Their identities."""
        return self.intake.sha256

    @property
    def images(self) -> Path | None:
        """The folder of the images, if any data set has its images in a folder."""
        folders = (store.path for store in self.intake.stores if isinstance(store, Folder))
        return next(folders, None)

    def store_of(self, name: str) -> ImageStore:
        """The first of the run's stores that has an image of that name. ImageError."""
        stores = [store for store in self.intake.stores if store is not None]
        for store in stores:
            if store.stamp(name) is not None:
                return store
        if not stores:
            raise ImageError(f"{name}: the run has no images; give their place with --images")
        places = " or ".join(dict.fromkeys(store.where(name) for store in stores))
        raise ImageError(f"{places} does not exist; check the path of the image")

    def attach(
        self,
        tower: Tower | None,
        say: Callable[[str], None],
        ranks: Ranks | None = None,
        more: Sequence[str] = (),
    ) -> None:
        """Open the stream, over cached features where the recipe wants them.

        `tower` computes what is not in the cache, and is let go; it may be None where the recipe
        caches nothing. `more` are images that no record names and that `picture` will be asked for.
        """
        self._ranks = ranks or Ranks()
        self._opened = self._open_pictures(tower, say, more)
        self._pictures = [
            None if store is None else self._opened[id(store)] for store in self.intake.stores
        ]
        self._stream = BatchStream(
            self.records,
            self._pictures,
            self._encoding(),
            self.recipe.batch_size,
            self.recipe.row_tokens,
            mix=self.intake.mix,
            seed=self.recipe.seed,
            epochs=None if self.recipe.max_steps else self.recipe.epochs,
            rank=self._ranks.reader,
            world=self._ranks.readers,
            workers=self.recipe.workers,
        )
        self._batches: Iterator[Batch] | None = None

    def picture(self, name: str) -> Picture:
        """An image as the run sees those of its records. ImageError, DataError."""
        return self._opened[id(self.store_of(name))](name)

    def _open_pictures(
        self, tower: Tower | None, say: Callable[[str], None], more: Sequence[str]
    ) -> dict[int, Pictures]:
        """Of every store, which data sets may share, the pictures or their cached features."""
        opened: dict[int, Pictures] = {}
        broken: dict[tuple[int, str], str] = {}
        stores = self.intake.stores
        for store in stores:
            if store is None or id(store) in opened:
                continue
            if not self.recipe.feature_cache or tower is None:
                opened[id(store)] = PreparedImages(store, self.parent.pixels)
                continue
            sharing = [at for at, other in enumerate(stores) if other is store]
            names = [name for at in sharing for name in self.intake.names(at)]
            names += [name for name in more if self.store_of(name) is store]
            workers = self.recipe.workers
            cached = cached_features(tower, store, names, say, self._ranks, workers=workers)
            opened[id(store)] = cached
            broken |= {(at, name): why for at in sharing for name, why in cached.broken.items()}
        if tower is not None:
            tower.let_go()
        self._judge_images(broken)
        return opened

    def _judge_images(self, broken: Mapping[tuple[int, str], str]) -> None:
        """With a cache, every image has been looked at: too many broken ones end the run now."""
        whys = [
            (record, why)
            for record in self.records
            for why in [
                broken[record.dataset, n] for n in record.images if (record.dataset, n) in broken
            ][:1]
        ]
        if len(whys) > self.recipe.max_bad_share * len(self.records):
            record, why = whys[0]
            raise DataError(
                f"{len(whys)} of {len(self.records)} records have an image that cannot be used, "
                f"more than max_bad_share allows ({self.recipe.max_bad_share:.0%}). The first is "
                f"{record.id!r}: {why.rstrip('.')}. Run `neva check`."
            )

    def _encoding(self) -> Encoding:
        return Encoding(
            self.template,
            self.parent.tokenizer,
            self.parent.image_token_id,
            self.parent.image_tokens,
            min(self.recipe.max_length, self.parent.context),
        )

    @property
    def samples(self) -> int:
        """Samples in one epoch, data sets counted by their weights."""
        return self.intake.mix.length

    @property
    def seen(self) -> int:
        """Samples so far, on all ranks, also before a resumption."""
        return self._stream.cursor

    def next_step(self) -> Step | None:
        """This rank's share of the next step, or None when the data is over; all ranks must ask.

        No rows if all its samples are broken.
        """
        if self._batches is None:
            self._batches = iter(self._stream)
        batch = next(self._batches, None)
        if batch is None:
            return None
        (problems,) = map(int, self._ranks.total([len(batch.problems)]))
        self.skipped += problems
        if problems:
            self._judge(batch.problems)
        # By record, not by its id: several may have the same one.
        fresh = {p.record: p for p in batch.problems if p.record not in self.bad}
        self.bad.update(fresh)
        return Step(tuple(map(as_inputs, batch.rows)), batch.sample_ids, tuple(fresh.values()))

    def _judge(self, mine: Sequence[Problem]) -> None:
        """Stop where too many are broken. On counts of all ranks, so that all of them stop.

        A few broken ones among the first are no share of the whole. Before there are enough to
        judge by, and in later passes, what is too much for the whole of a pass stops the run.
        """
        allowed, estimated = self.recipe.max_bad_share, ENOUGH_SEEN <= self.seen < self.samples
        whole = self.samples * math.ceil(self.seen / self.samples)
        if self.skipped <= allowed * (self.seen if estimated else whole):
            return
        latest = [(p.sample, p.sentence) for p in mine[-1:]]
        sample, why = [one for rank in self._ranks.gather(latest) for one in rank][-1]
        raise DataError(
            f"{self.skipped} of the first {self.seen} samples are broken (a pass has "
            f"{self.samples}), more than max_bad_share allows ({allowed:.0%}). The latest is "
            f"{sample!r}: {why.rstrip('.')}. Run `neva check`."
        )

    def held_out(self) -> Iterator[PackedInputs]:
        """This rank's share of the validation records, in rows, read ahead as they are needed."""
        if not self.validation:
            return
        with BatchStream(
            self.validation,
            self._pictures,
            self._encoding(),
            self.recipe.batch_size,
            self.recipe.row_tokens,
            epochs=1,
            shuffle=False,
            rank=self._ranks.reader,
            world=self._ranks.readers,
            workers=self.recipe.workers,
        ) as stream:
            for batch in stream:
                for problem in batch.problems:
                    place = len(self.records) + problem.record
                    if place not in self.bad:
                        self.fresh.append(problem)
                    self.bad.add(place)
                yield from map(as_inputs, batch.rows)

    def take_fresh(self) -> list[Problem]:
        """What this rank found wrong with held-out records, each told once."""
        taken, self.fresh = self.fresh, []
        return taken

    @property
    def skipped_held_out(self) -> int:
        """Held-out records that were skipped, on the ranks that have shared it."""
        return sum(place >= len(self.records) for place in self.bad)

    def state(self) -> dict[str, Any]:
        """Where the feed is, for a checkpoint. All ranks must call it."""
        self.share_bad()
        return {
            "stream": self._stream.state_dict(),
            "skipped": self.skipped,
            "bad": sorted(self.bad),
        }

    def share_bad(self) -> None:
        """Tell all ranks which records were skipped. All ranks must call it."""
        count = len(self.records) + len(self.validation)
        marks = np.zeros(count, dtype=np.bool_)
        marks[list(self.bad)] = True
        everyone = self._ranks.gather_bytes(torch.from_numpy(np.packbits(marks)))
        for one in everyone:
            found = np.unpackbits(one.numpy(), count=count)
            self.bad.update(np.flatnonzero(found).tolist())

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, before the first step."""
        self._stream.load_state_dict(state["stream"])
        self.bad.update(state.get("bad", ()))
        self.skipped = int(state["skipped"])

    def datasets(self) -> tuple[DatasetUsed, ...]:
        """The data sets as they were used so far, for summaries and provenance."""
        stream: BatchStream | None = getattr(self, "_stream", None)
        seen = stream.counts() if stream else [0] * len(self.data)
        every = [*self.records, *self.validation]
        usable = Counter(record.dataset for record in every)
        skipped = Counter(flaw.dataset for flaw in self.flaws)
        skipped.update(every[place].dataset for place in self.bad)
        return tuple(
            DatasetUsed(
                name=one.name,
                version=one.version,
                sha256=self.sha256[place],
                licence=one.licence,
                samples=usable[place],
                skipped=skipped[place],
                weight=one.weight,
                seen=seen[place],
            )
            for place, one in enumerate(self.intake.datasets)
        )

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def as_inputs(row: Row) -> PackedInputs:
    """A row of arrays as tensors."""
    return PackedInputs(
        ids=torch.from_numpy(row.ids),
        positions=torch.from_numpy(row.positions),
        cu_seqlens=torch.from_numpy(row.cu_seqlens),
        supervised=torch.from_numpy(row.supervised),
        images=None if row.images is None else torch.from_numpy(np.ascontiguousarray(row.images)),
        features=None if row.features is None else as_tensor(row.features),
    )


def template_of(recipe: Recipe, parent: Checkpoint) -> Template:
    """The template that a run writes its conversations with."""
    if recipe.template is None:
        return TEMPLATES["plain"] if recipe.stage == "pretrain" else parent.template
    if recipe.template not in TEMPLATES:
        raise DataError(
            f"No template is called {recipe.template!r}; the templates are {', '.join(TEMPLATES)}."
        )
    if recipe.stage == "finetune" and recipe.template != parent.template.name:
        raise DataError(
            f"{parent.path} speaks {parent.template.name}, and the recipe asks for "
            f"{recipe.template}: use --template {parent.template.name}, or compose the checkpoint "
            f"with --template {recipe.template}."
        )
    return TEMPLATES[recipe.template]
