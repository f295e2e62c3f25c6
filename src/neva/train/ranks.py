"""Several processes that learn one model: who I am among them, and sums over all of us.

Started by torchrun, which sets RANK and WORLD_SIZE. Every rank holds the whole model and reads its
own share of each step's samples; the gradients of what learns are summed in float32, so any number
of processes makes the same step. Every rank takes part in every sum, whether its share has images,
text only, or nothing at all, so none ever waits for another in vain.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among `world` processes; `local` is its number on its own machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def join(cls) -> "Ranks":
        """Join the group that torchrun describes, or be alone."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def first(self) -> bool:
        """True for the one that writes."""
        return self.rank == 0

    @property
    def device(self) -> str:
        """Where this rank computes."""
        return f"cuda:{self.local}" if torch.cuda.is_available() else "cpu"

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all ranks, in float64."""
        if self.world == 1:
            return list(numbers)
        device = self.device if torch.cuda.is_available() else "cpu"
        sums = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def add_up(self, gradients: Iterable[Tensor]) -> None:
        """Replace every tensor by its sum over all ranks, in place."""
        if self.world > 1:
            for gradient in gradients:
                dist.all_reduce(gradient)

    def gather_bytes(self, state: Tensor) -> list[Tensor]:
        """Every rank's uint8 tensor (all of one length), in the order of ranks."""
        if self.world == 1:
            return [state]
        mine = state.to(self.device if torch.cuda.is_available() else "cpu")
        everyone = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(everyone, mine)
        return [one.cpu() for one in everyone]

    def leave(self) -> None:
        """Leave the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
