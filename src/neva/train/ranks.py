"""Several processes that learn one model: who I am among them, and sums over all of us.

Started by torchrun, which sets RANK and WORLD_SIZE. Every reader takes its own share of each step's
samples; `tensor` neighbouring ranks are one reader, since they compute the same rows together.
Every rank takes part in every sum, whether its share has images, text only, or nothing at all, so
none ever waits for another in vain. How the weights lie on the ranks is `neva.train.sharding`'s.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# The first rank may fill a feature cache or write a large checkpoint while the others wait; what
# the model computes keeps torch's own, much shorter limit, so that a hang is noticed.
PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class Ranks:
    """This process among `world` processes; `local` is its number on its own machine."""

    rank: int = 0
    world: int = 1
    local: int = 0
    tensor: int = 1
    """Neighbouring ranks that compute the same rows together (tensor parallelism)."""
    patient: dist.ProcessGroup | None = None
    """All ranks, over gloo: for waiting long, and for what is on the CPU."""

    @classmethod
    def join(cls, tensor: int = 1) -> "Ranks":
        """Join the group that torchrun describes, or be alone."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if torch.cuda.is_available():
            torch.cuda.set_device(local)
        if not dist.is_initialized():
            # With gloo beside NCCL, checkpoints are written from the CPU while the GPU goes on.
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        return cls(dist.get_rank(), world, local, tensor, patient)

    @property
    def first(self) -> bool:
        """True for the one that writes."""
        return self.rank == 0

    @property
    def reader(self) -> int:
        """Whose share of the samples this rank computes, of `readers`."""
        return self.rank // self.tensor

    @property
    def readers(self) -> int:
        """Into how many shares a step's samples are divided."""
        return self.world // self.tensor

    @property
    def device(self) -> str:
        """Where this rank computes."""
        return f"cuda:{self.local}" if torch.cuda.is_available() else "cpu"

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier(self.patient)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all readers, in float64; the same bits on every rank."""
        if self.world == 1:
            return list(numbers)
        counted = numbers if self.rank % self.tensor == 0 else [0.0] * len(numbers)
        return self._reduced(counted, dist.ReduceOp.SUM)

    def most(self, number: float) -> float:
        """The largest of all ranks' numbers."""
        return number if self.world == 1 else self._reduced([number], dist.ReduceOp.MAX)[0]

    def _reduced(self, numbers: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums, how)
        return [float(value) for value in sums]

    def add_up(self, tensors: Iterable[Tensor], group: dist.ProcessGroup | None = None) -> None:
        """Replace every tensor by its sum over all ranks, or those of `group`, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.all_reduce(tensor, group=group)

    def gather_bytes(self, state: Tensor) -> list[Tensor]:
        """Every rank's uint8 tensor (all of one length), in the order of ranks."""
        if self.world == 1:
            return [state]
        everyone = [torch.empty_like(state) for _ in range(self.world)]
        dist.all_gather(everyone, state, group=self.patient)
        return everyone

    def gather(self, mine: T) -> list[T]:
        """What every rank brings, in the order of ranks; small and plain, for waiting long."""
        if self.world == 1:
            return [mine]
        everyone: list[T | None] = [None] * self.world
        dist.all_gather_object(everyone, mine, group=self.patient)
        return cast(list[T], everyone)

    def leave(self) -> None:
        """Leave the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
