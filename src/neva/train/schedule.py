"""The learning rate of a step: a straight climb, then a cosine down to a floor.

A pure function of the step, so that a resumed run needs no state of a scheduler.
"""

import math

from neva.train.recipe import Recipe


def rate(step: int, total: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at `step` (0-based) of `total` steps.

    The first step of a warm-up of W steps has 1/(W+1), not 0: no step is wasted.
    """
    warmup = math.ceil(total * recipe.warmup_ratio)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total - warmup, 1)
    return recipe.floor_ratio + (1 - recipe.floor_ratio) * 0.5 * (1 + math.cos(math.pi * done))


def total_steps(samples: int, recipe: Recipe) -> int:
    """Steps of the whole run over `samples` samples; the last batch may be smaller."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    return max(1, math.ceil(samples * recipe.epochs / recipe.batch_size))
