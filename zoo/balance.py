"""Questions that keep their answers balanced: each form's answers are told equally often.

A model that is told "yes" two times of three learns to say "yes". Chance is not enough: which
questions a scene allows depends on what stands in it. So the rarest answer is asked for, and
forms whose scene allows only an answer that was told too often are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Rng = np.random.Generator
SLACK = 2
"""By how many an answer may be ahead of the rarest one of its form."""


@dataclass(frozen=True)
class Asked:
    """A question with its answer; ``about`` is what it gives away, which none may ask again.

    ``reasons`` is said in place of the bare answer, which it ends with: an LM of this size counts
    and compares what it has named far better than what it has not.
    """

    form: str
    question: str
    answer: str
    about: str
    reasons: str = ""


@dataclass
class Balance:
    """What has been told so far, by form and answer."""

    told: Counter[tuple[str, str]] = field(default_factory=Counter)

    def rarest(self, form: str, answers: Sequence[str], rng: Rng) -> str:
        """The answer told least of all; among equals by chance."""
        least = min(self.told[form, answer] for answer in answers)
        rare = [answer for answer in answers if self.told[form, answer] == least]
        return rare[int(rng.integers(len(rare)))]

    def fair(self, form: str, answer: str, answers: Sequence[str]) -> bool:
        """Whether an answer is not ahead of the rarest one by more than the slack."""
        return self.told[form, answer] <= min(self.told[form, one] for one in answers) + SLACK

    def tell(self, asked: Asked) -> None:
        """Count a question that a record has taken."""
        self.told[asked.form, asked.answer] += 1
