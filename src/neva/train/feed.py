"""Training files -> the steps of a run: rows as tensors, images or cached features, a cursor.

This is where a run meets `neva.data`: which records, which are held out, how many may be broken.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from neva.data.batch import Batch, ImageFolder, Pictures, Problem, Row
from neva.data.records import Flaw, Record, scan_records
from neva.data.samples import Encoding
from neva.data.stream import BatchStream
from neva.errors import DataError
from neva.model import Checkpoint, DatasetUsed
from neva.model.arrays import as_tensor
from neva.model.forward import PackedInputs
from neva.model.weights import sha256_file
from neva.prompts import TEMPLATES, Template
from neva.train.features import CachedPictures, cached_features
from neva.train.ranks import Ranks
from neva.train.recipe import Recipe

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
    """The steps of a run. Open, attach the model, then `next_step` until the run is over."""

    recipe: Recipe
    parent: Checkpoint
    data: tuple[Path, ...]
    images: Path | None
    template: Template
    records: list[Record]
    validation: list[Record]
    flaws: list[Flaw]
    sha256: tuple[str, ...]
    counts: tuple[tuple[int, int], ...]
    licences: tuple[str, ...]
    skipped: int = 0
    seen: int = 0
    named: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        parent: Checkpoint,
        data: Sequence[Path],
        images: Path | None,
        licences: Sequence[str] = (),
    ) -> "Feed":
        """Read and check the training files; DataError names file, record and remedy.

        `licences` are of the files in their order; one is for all of them.
        """
        if len(licences) not in (0, 1, len(data)):
            raise DataError(
                f"{len(licences)} licences for {len(data)} training files; give one for each in "
                "the same order, or one for all."
            )
        template = template_of(recipe, parent)
        entries = [scan_records(path) for path in data]
        usable = [entry for file in entries for entry in file if isinstance(entry, Record)]
        flaws = [entry for file in entries for entry in file if isinstance(entry, Flaw)]
        _check_flaws(flaws, len(usable), data, recipe)
        _check_images(usable, images)
        held = [record for record in usable if _is_held_out(record, recipe)]
        out = {id(record) for record in held}
        learned = [record for record in usable if id(record) not in out]
        if not learned:
            raise DataError(f"{data[0]}: no record is left to learn from.")
        return cls(
            recipe=recipe,
            parent=parent,
            data=tuple(data),
            images=images,
            template=template,
            records=learned,
            validation=held,
            flaws=flaws,
            sha256=tuple(sha256_file(path) for path in data),
            counts=tuple(
                (sum(isinstance(e, Record) for e in file), sum(isinstance(e, Flaw) for e in file))
                for file in entries
            ),
            licences=tuple(licences) * (len(data) if len(licences) == 1 else 1)
            or ("",) * len(data),
        )

    def attach(
        self,
        model: LlavaForConditionalGeneration,
        say: Callable[[str], None],
        ranks: Ranks | None = None,
    ) -> None:
        """Open the stream, over cached features of `model`'s tower where the recipe wants them."""
        ranks = ranks or Ranks()
        for turn in range(2):  # the first rank fills the cache, the others find it full
            if ranks.first == (turn == 0):
                self._pictures = self._open_pictures(model, say)
            ranks.wait()
        epochs = None if self.recipe.max_steps else self.recipe.epochs
        self._stream = BatchStream(
            self.records,
            self._pictures,
            self._encoding(),
            self.recipe.batch_size,
            self.recipe.row_tokens,
            seed=self.recipe.seed,
            epochs=epochs,
            rank=ranks.reader,
            world=ranks.readers,
            workers=self.recipe.workers,
        )
        self._batches: Iterator[Batch] | None = None

    def _open_pictures(
        self, model: LlavaForConditionalGeneration, say: Callable[[str], None]
    ) -> Pictures | None:
        if self.images is None:
            return None
        if not self.recipe.feature_cache:
            return ImageFolder(self.images, self.parent.pixels)
        names = [name for r in (*self.records, *self.validation) for name in r.images]
        cache, problems = cached_features(model, self.parent, self.images, names, say)
        broken = {problem.sample: problem.sentence for problem in problems}
        self._judge_images(broken)
        return CachedPictures(cache, broken)

    def _judge_images(self, broken: Mapping[str, str]) -> None:
        """With a cache, every image has been looked at: too many broken ones end the run now."""
        lost = [r for r in self.records if not broken.keys().isdisjoint(r.images)]
        if len(lost) > self.recipe.max_bad_share * len(self.records):
            why = next(broken[name] for name in lost[0].images if name in broken)
            raise DataError(
                f"{len(lost)} of {len(self.records)} records have an image that cannot be used, "
                f"more than max_bad_share allows ({self.recipe.max_bad_share:.0%}). The first is "
                f"{lost[0].id!r}: {why.rstrip('.')}. Run `neva check`."
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
        """Records to learn from in one epoch."""
        return len(self.records)

    def next_step(self) -> Step | None:
        """This rank's share of the next step, or None when the data is over.

        No rows if all its samples are broken.
        """
        if self._batches is None:
            self._batches = iter(self._stream)
        batch = next(self._batches, None)
        if batch is None:
            return None
        self.seen += len(batch.sample_ids) + len(batch.problems)
        self.skipped += len(batch.problems)
        if batch.problems:
            self._judge(batch.problems, empty=not batch.rows)
        fresh = tuple(p for p in batch.problems if p.sample not in self.named)
        self.named.update(problem.sample for problem in fresh)
        return Step(tuple(map(as_inputs, batch.rows)), batch.sample_ids, fresh)

    def _judge(self, problems: Sequence[Problem], empty: bool) -> None:
        share = self.skipped / self.seen
        judged = empty or self.seen >= ENOUGH_SEEN
        if judged and share > self.recipe.max_bad_share:
            raise DataError(
                f"{self.skipped} of the first {self.seen} samples are broken, more than "
                f"max_bad_share allows ({self.recipe.max_bad_share:.0%}). The latest is "
                f"{problems[-1].sample!r}: {problems[-1].sentence.rstrip('.')}. Run `neva check`."
            )

    def held_out(self) -> list[PackedInputs]:
        """Rows of the validation records, in order."""
        if not self.validation:
            return []
        with BatchStream(
            self.validation,
            self._pictures,
            self._encoding(),
            self.recipe.batch_size,
            self.recipe.row_tokens,
            epochs=1,
            shuffle=False,
            workers=self.recipe.workers,
        ) as stream:
            return [as_inputs(row) for batch in stream for row in batch.rows]

    def state(self) -> dict[str, Any]:
        """Where the feed is, for a checkpoint."""
        return {"stream": self._stream.state_dict(), "skipped": self.skipped, "seen": self.seen}

    def restore(self, state: Mapping[str, Any], count: bool = True) -> None:
        """The inverse of `state`, before the first step; one rank takes over what was counted."""
        self._stream.load_state_dict(state["stream"])
        if count:
            self.skipped, self.seen = int(state["skipped"]), int(state["seen"])

    def datasets(self) -> tuple[DatasetUsed, ...]:
        """The training files, for the provenance of what they made."""
        return tuple(
            DatasetUsed(
                name=path.name, sha256=digest, licence=licence, samples=usable, skipped=flawed
            )
            for path, digest, licence, (usable, flawed) in zip(
                self.data, self.sha256, self.licences, self.counts, strict=True
            )
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


def _is_held_out(record: Record, recipe: Recipe) -> bool:
    """By the record's own id, so that adding data never moves a record to the other side."""
    if recipe.validation_share == 0:
        return False
    digest = hashlib.sha256(f"{record.id}\0{record.images}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < recipe.validation_share * 2**32


def _check_flaws(flaws: Sequence[Flaw], usable: int, data: Sequence[Path], recipe: Recipe) -> None:
    if len(flaws) > recipe.max_bad_share * (usable + len(flaws)) or not usable:
        raise DataError(
            f"{', '.join(map(str, data))}: {len(flaws)} of {usable + len(flaws)} records cannot be "
            f"used. The first is {flaws[0].id!r} (number {flaws[0].line}): "
            f"{flaws[0].sentence.rstrip('.')}. Run `neva check` for the list."
        )


def _check_images(records: Sequence[Record], images: Path | None) -> None:
    first = next((record for record in records if record.images), None)
    if first is None:
        return
    if images is None:
        raise DataError(f"Record {first.id!r} has an image; give their folder with --images.")
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; give the images' folder with --images.")
