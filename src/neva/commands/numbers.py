"""Options that are numbers."""

import math

import typer


def no_nan(value: float | None) -> float | None:
    """A callback for options with `min` and `max`, neither of which holds off nan."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value
