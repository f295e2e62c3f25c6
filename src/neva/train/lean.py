"""AdamW in 12 bytes a weight that learns instead of 18, its gradient's float32 sum included.

A float32 master is kept as the model's bfloat16 weight and the 16 bits which that leaves out, so
the two together are the master, bit for bit, and the weight is no second copy of it. Both moments
are bfloat16 (DeepSeek-V3, section 3.3.3, keeps them so without a loss that could be seen), rounded
up or down by chance in proportion to what is cut off (Gupta et al. 2015): with a memory of .999 the
mean square changes by less than bfloat16 resolves, and rounding to the nearest would stop it. The
chance is a hash of the number itself and of the step, so that a resumed run throws the same dice.

The arithmetic is float32, a block at a time, which stays in a core's cache.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from neva.train.optimizer import EPSILON, Optimizer, Source, peak_and_decay
from neva.train.recipe import Recipe

BLOCK = 2**18  # numbers that are updated together
_HALF = 2**15  # of the 16 bits that bfloat16 leaves out of a float32
_MIX = (0x2C1B3C6D, 0x297A2D39)  # odd factors, of Wang and Jenkins's family of integer hashes


def cut(master: Tensor, weight: Tensor, rest: Tensor) -> None:
    """A float32 master as its bfloat16 `weight`, halves rounded up, and int16 `rest`."""
    bits = master.view(torch.int32)
    rest.copy_(bits << 16 >> 16)  # signed: what the rounding left out or added
    weight.view(torch.int16).copy_((bits + _HALF) >> 16)


def join(weight: Tensor, rest: Tensor) -> Tensor:
    """The float32 master again; the inverse of `cut`, bit for bit."""
    bits = weight.view(torch.int16).to(torch.int32) << 16
    return bits.add_(rest).view(torch.float32)


def round_by_chance(x: Tensor, salt: int) -> Tensor:
    """Float32 -> bfloat16, up or down in proportion to what is cut off. Writes over `x`."""
    bits = x.view(torch.int32)
    dice = (bits + salt).mul_(_MIX[0])
    dice.bitwise_xor_(dice >> 15).mul_(_MIX[1])
    bits.add_((dice >> 16).bitwise_and_(0xFFFF))
    return (bits >> 16).to(torch.int16).view(torch.bfloat16)


class Masters(Mapping[str, Tensor]):
    """float32 masters by name, each made when it is asked for."""

    def __init__(self, weights: Mapping[str, Tensor], rests: Mapping[str, Tensor]) -> None:
        self.weights, self.rests = weights, rests

    def __getitem__(self, name: str) -> Tensor:
        return join(self.weights[name], self.rests[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


class LeanAdamW(Optimizer):
    """AdamW with the model's own weights as half of the masters; not for what FSDP divides."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
        fulls = {name: p.detach() for name, p in parameters.items()}
        super().__init__(parameters, torch.bfloat16)
        self.betas = (recipe.beta1, recipe.beta2)
        self.rates = {n: peak_and_decay(n, p, recipe) for n, p in self.parameters.items()}
        # the weights as they are now: what a run writes at its end may replace a parameter's data
        self.weights = {n: p.detach() for n, p in self.parameters.items()}
        self.rests = {n: torch.zeros_like(w, dtype=torch.int16) for n, w in self.weights.items()}
        for name, full in fulls.items():
            if full.dtype == torch.float32:
                cut(full, self.weights[name], self.rests[name])
        self.means: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.steps = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def begin(self, name: str, full: Tensor) -> None:
        weight = self.weights[name]
        cut(full.to(weight.device), weight, self.rests[name])

    @torch.no_grad()
    def step(self, share: float) -> None:
        self.steps += 1
        for name, total in self.sums.total.items():
            if name not in self.means:
                self.means[name] = torch.zeros_like(self.weights[name])
                self.squares[name] = torch.zeros_like(self.weights[name])
            peak, decay = self.rates[name]
            parts = (self.weights[name], self.rests[name], self.means[name], self.squares[name])
            blocks = zip(
                *(torch.split(part.view(-1), BLOCK) for part in (total, *parts)), strict=True
            )
            for gradient, weight, rest, mean, square in blocks:
                self._update(gradient, weight, rest, mean, square, peak * share, decay)
        self.sums.drop()

    def _update(self, gradient: Tensor, weight: Tensor, rest: Tensor, mean: Tensor, square: Tensor,
                rate: float, decay: float) -> None:  # fmt: skip
        """One block of one parameter: Loshchilov and Hutter's update, in float32."""
        (beta, beta_2), step = self.betas, int(self.steps)
        first = mean.float().lerp_(gradient, 1 - beta)
        second = square.float().mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        master = join(weight, rest).mul_(1 - rate * decay)
        below = second.sqrt().div_(math.sqrt(1 - beta_2**step)).add_(EPSILON)
        master.addcdiv_(first, below, value=-rate / (1 - beta**step))
        cut(master, weight, rest)
        mean.copy_(round_by_chance(first, 2 * step))
        square.copy_(round_by_chance(second, 2 * step + 1))

    def whole(self, keep: bool = True) -> Masters:
        return Masters(self.weights, self.rests)

    def state(self) -> dict[str, Tensor]:
        """`weight.NAME`, `rest.NAME`, `mean.NAME`, `square.NAME`, `steps`."""
        parts = {
            "weight": self.weights,
            "rest": self.rests,
            "mean": self.means,
            "square": self.squares,
        }
        found = {f"{kind}.{n}": part for kind, of in parts.items() for n, part in of.items()}
        return {**found, "steps": self.steps}

    @torch.no_grad()
    def load(self, saved: Source) -> None:
        names = saved.names()
        for name, weight in self.weights.items():
            if f"mean.{name}" in names:
                self.means[name] = torch.zeros_like(weight)
                self.squares[name] = torch.zeros_like(weight)
        saved.fill(self.state())

    def forget(self) -> None:
        self.means.clear()
        self.squares.clear()
        self.sums.drop()
