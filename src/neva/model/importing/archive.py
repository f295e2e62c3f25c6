"""A .nemo archive, opened warily: its configuration and its weights' files, and nothing else.

Only members of the names that we look for are unpacked, under names of our own, into a folder that
is gone afterwards. An archive that holds links, ways out of its folder, or more bytes than it could
come from is refused as a whole.
"""

import gzip
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from neva.errors import CheckpointError
from neva.model.files import check_room, full_disk_named, made_folder
from neva.model.importing.rationed import MOST_HEADER, Rationed, Stream

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"
_RANK = re.compile(r"mp_rank_(\d{2,3})")
_PIPELINE = re.compile(r"tp_rank_\d+_pp_rank_\d+")
_MOST_MEMBERS = 100_000
_MOST_CONFIG = 4 * 2**20
_MOST_RATIO = 20  # of bytes unpacked to bytes packed: weights hardly shrink
_SLACK = 2**20
DISTRIBUTED = (
    "its weights are a distributed checkpoint, which can be read by NeMo only; make a Hugging Face "
    "LLaVA of it with NeMo's scripts/checkpoint_converters/convert_llava_nemo_to_hf.py (NeMo 2.0 "
    "or 2.1), which neva opens as it is"
)


@dataclass
class Unpacked:
    """Where the parts of an archive lie; `ranks` are the shards of tensor parallelism by rank."""

    source: Path
    config: Path | None = None
    whole: Path | None = None
    ranks: dict[int, Path] = field(default_factory=dict)

    def shards(self) -> tuple[Path, ...]:
        """The files of weights, by their ranks; CheckpointError unless all are there."""
        if self.config is None:
            raise CheckpointError(f"{self.source}: {CONFIG} is missing; it is no NeMo model.")
        if self.whole is not None and not self.ranks:
            return (self.whole,)
        if self.whole is not None or sorted(self.ranks) != list(range(len(self.ranks))):
            raise CheckpointError(
                f"{self.source}: its shards {sorted(self.ranks)} are not one model's; copy it "
                "again."
            )
        if not self.ranks:
            raise CheckpointError(f"{self.source}: {WEIGHTS} is missing; copy it again.")
        return tuple(self.ranks[rank] for rank in sorted(self.ranks))


@contextmanager
def opened_nemo(source: Path, beside: Path) -> Iterator[Unpacked]:
    """An archive, unpacked in `beside` for as long as the block lasts, or an unpacked folder."""
    if source.is_dir():
        yield _folder(source)
        return
    beside = beside.resolve()
    with (
        made_folder(beside),
        tempfile.TemporaryDirectory(prefix=".neva-import-", dir=beside) as folder,
    ):
        with full_disk_named(beside):
            unpacked = _unpack(source, Path(folder))
        yield unpacked


def _folder(source: Path) -> Unpacked:
    found = Unpacked(source)
    for path in [*sorted(source.iterdir()), *sorted(source.glob(f"mp_rank_*/{WEIGHTS}"))]:
        if place := _wanted(source, path.relative_to(source).as_posix()):
            _keep(found, place, path)
    return found


def _unpack(source: Path, folder: Path) -> Unpacked:
    found, most = Unpacked(source), source.stat().st_size * _MOST_RATIO + _SLACK
    try:
        with _opened(source) as stream:
            _take(found, Rationed(source, stream), folder, most)
            while stream.read(2**20):  # gzip compares its sum where it ends, behind tar's end mark
                _check_size(source, stream.tell() <= most)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OSError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the archive
        raise CheckpointError(
            f"{source}: not a NeMo archive, or damaged ({error}); copy it again."
        ) from error
    return found


def _take(found: Unpacked, stream: Rationed, folder: Path, most: int) -> None:
    """Unpack what is wanted; `most` is how long the archive may be, headers and all."""
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for count, member in enumerate(archive):
            _check(found.source, member, count)
            place = _wanted(found.source, member.name)
            _check_size(found.source, archive.offset <= most)
            _check_size(found.source, place != CONFIG or member.size <= _MOST_CONFIG)
            if place is not None and member.isfile():
                file = folder / place.replace("/", "-")
                _keep(found, place, file)
                check_room(folder.parent, member.size)
                stream.left = member.size
                _copy(archive, member, file)
            stream.left = MOST_HEADER


def _opened(source: Path) -> Stream:
    """NeMo writes plain archives, and in its first years wrote gzipped ones."""
    with source.open("rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(source, "rb") if gzipped else source.open("rb")


def _check_size(source: Path, right: bool) -> None:
    if not right:
        raise CheckpointError(
            f"{source}: it would unpack to more than a model can be; neva does not open it."
        )


def _check(source: Path, member: tarfile.TarInfo, count: int) -> None:
    """CheckpointError for a member that no archive of NeMo's has."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise CheckpointError(
            f"{source}: {member.name!r} leads out of the archive; neva does not open it."
        )
    if not (member.isfile() or member.isdir()) or member.issparse() or member.size < 0:
        raise CheckpointError(
            f"{source}: {member.name!r} is neither file nor folder; neva does not open it."
        )
    if count >= _MOST_MEMBERS:
        raise CheckpointError(f"{source}: more than {_MOST_MEMBERS} members; no model has so many.")


def _wanted(source: Path, name: str) -> str | None:
    """The place of a member that is read, None of others; refuses layouts that cannot be read."""
    parts = PurePosixPath(name).parts
    if parts[:1] == ("model_weights",):
        raise CheckpointError(f"{source}: {DISTRIBUTED}.")
    if parts and _PIPELINE.fullmatch(parts[0]):
        raise CheckpointError(
            f"{source}: its layers are divided by pipeline parallelism; save it with "
            "pipeline_model_parallel_size=1 by NeMo's examples/nlp/language_modeling/"
            "megatron_change_num_partitions.py."
        )
    ranked = len(parts) == 2 and parts[1] == WEIGHTS and _RANK.fullmatch(parts[0])
    return "/".join(parts) if ranked or parts in ((CONFIG,), (WEIGHTS,)) else None


def _keep(found: Unpacked, place: str, file: Path) -> None:
    rank = _RANK.match(place)
    taken = (
        int(rank[1]) in found.ranks
        if rank
        else (found.config if place == CONFIG else found.whole) is not None
    )
    if taken:
        raise CheckpointError(f"{found.source}: {place} is there twice; copy it again.")
    if rank:
        found.ranks[int(rank[1])] = file
    elif place == CONFIG:
        found.config = file
    else:
        found.whole = file


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> None:
    """At most `member.size` bytes, as tarfile reads no more of a member."""
    stream = archive.extractfile(member)
    assert stream is not None  # of a plain file
    with stream, file.open("xb") as target:
        shutil.copyfileobj(stream, target, 2**20)
    if file.stat().st_size != member.size:
        raise EOFError(f"{member.name} is cut short")
