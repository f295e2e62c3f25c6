"""How much of the device's arithmetic a run uses: its model FLOPs over the peak (MFU)."""

from collections.abc import Sequence
from dataclasses import dataclass

from neva.model.forward import PackedInputs
from neva.train.flops import step_flops
from neva.train.learner import Learner, supervised_tokens
from neva.train.peak import Peak
from neva.train.recipe import Recipe
from neva.train.shape import Shape


@dataclass(frozen=True)
class Meter:
    """Counts the work of steps. `adapter`: its parameters; `peak` None: unknown device."""

    shape: Shape
    recipe: Recipe
    adapter: int
    peak: Peak | None
    devices: int

    @classmethod
    def of(cls, learner: Learner, peak: Peak | None) -> "Meter":
        """The meter of a run; `peak` is of each of its devices."""
        learned = learner.model.named_parameters()
        adapter = sum(p.numel() for name, p in learned if "lora_" in name)
        shape = Shape.of_config(learner.parent.config)
        return cls(shape, learner.recipe, adapter, peak, learner.ranks.world)

    def flops(self, rows: Sequence[PackedInputs]) -> float:
        """Model FLOPs of learning from `rows`."""
        return sum(self._row(row) for row in rows)

    def _row(self, row: PackedInputs) -> float:
        pictures = row.features if row.images is None else row.images
        return step_flops(
            self.shape,
            self.recipe,
            row.cu_seqlens.diff().tolist(),
            supervised_tokens(row),
            0 if pictures is None else len(pictures),
            live=row.images is not None,
            adapter=self.adapter,
        )

    def utilisation(self, flops: float, seconds: float) -> float | None:
        """MFU, 0 to 1, of `flops` by all devices in `seconds`; None where the peak is unknown.

        More than all that a device can do was not done: such a peak was measured while something
        else kept the CPU busy, and no share of it is told.
        """
        if self.peak is None or not seconds:
            return None
        share = flops / (seconds * self.peak.flops * self.devices)
        return share if share <= 1 else None
