"""Who writes a run's checkpoints: one process all at once, of several each its own pieces.

With several processes torch.distributed.checkpoint copies every rank's pieces aside and writes them
while the training goes on; the first rank gives the folder its name once all have been written. A
kill in between leaves the checkpoint before it. The pieces are safetensors too.
"""

from concurrent.futures import Future
from pathlib import Path

import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from neva.train.ranks import PATIENCE, Ranks
from neva.train.state import Snapshot, begin, clear_unfinished, complete, save, write_values

_RANDOM = "random."


class Saver:
    """Writes under `folder`, of which the newest `keep` stay. Every rank has one."""

    def __init__(self, folder: Path, keep: int, ranks: Ranks) -> None:
        self.folder, self.keep, self.ranks = folder, keep, ranks
        self._writing: tuple[int, Future[object]] | None = None
        if ranks.first:
            clear_unfinished(folder)
        # The writing thread must not mix its messages with the training's.
        several = ranks.world > 1
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE) if several else None

    def save(self, snapshot: Snapshot) -> None:
        """Write `snapshot`, of which each rank gives its own pieces; all ranks must call it."""
        if self._group is None:
            save(snapshot, self.folder, self.keep)
            return
        self.wait()
        aside = begin(snapshot.step, self.folder) if self.ranks.first else self.folder
        (path,) = self._told([str(aside)])
        if self.ranks.first:
            write_values(snapshot, aside)
            random = {k: v for k, v in snapshot.tensors.items() if k.startswith(_RANDOM)}
            save_file(random, aside / "random.safetensors")
        pieces = {k: v for k, v in snapshot.tensors.items() if not k.startswith(_RANDOM)}
        writer = HuggingFaceStorageWriter(path, save_distributed=True)
        made = async_save(pieces, storage_writer=writer, process_group=self._group)
        assert isinstance(made, Future)
        self._writing = (snapshot.step, made)

    def settle(self) -> None:
        """Finish a save whose writing is over; never waits."""
        if self._writing and self._writing[1].done():
            self._finish()

    def wait(self) -> None:
        """Finish the save under way. All ranks must call it."""
        if self._writing:
            self._finish()
        self.ranks.wait()

    def _finish(self) -> None:
        assert self._writing is not None
        (step, made), self._writing = self._writing, None
        made.result()  # of the first rank: all ranks' pieces are on the disk
        if self.ranks.first:
            complete(step, self.folder, self.keep)

    def _told(self, words: list[str]) -> list[str]:
        """What the first rank says."""
        dist.broadcast_object_list(words, src=0, group=self._group)
        return words
