"""Results of one task told as one: a baseline that was run by itself stands beside its score."""

from collections.abc import Mapping, Sequence
from typing import Any

from neva.errors import DataError

Result = Mapping[str, Any]
ALIKE = ("suffix", "system", "data")
"""What a score and its baselines must have in common: the words, and the set."""


def gather(results: Sequence[Result], ours: Mapping[str, str] | None = None) -> list[Result]:
    """Each task's result with pictures, its baselines' metrics in `beside`; in the order given.

    A baseline of fewer questions than its score says how many it had, "shuffled, 600". A baseline
    alone stays as it is, under its own name (`column_of`). `ours` are the model's "sha256" and
    "weights" (fingerprint), of which a result of a server has the second alone. DataError when a
    result is of others, which would make the card untrue, when two results are of one task and
    baseline, or were not asked alike.
    """
    seen: set[tuple[str, str]] = set()
    for one in results:
        key = (str(one["task"]), baseline_of(one))
        for name, mine in (ours or {}).items():
            other = one["asked"].get(name)
            if other not in (None, mine):
                raise DataError(
                    f"the result of {key[0]} is of the model {str(other)[:12]}, not of "
                    f"{mine[:12]}; run `neva eval {key[0]}` on this model."
                )
        if key in seen:
            raise DataError(f"two results of {key[0]} with the baseline {key[1]!r}; give one.")
        seen.add(key)
    scored = {str(one["task"]) for one in results if baseline_of(one) == "none"}
    return [
        joined(one, results) if baseline_of(one) == "none" else one
        for one in results
        if baseline_of(one) == "none" or one["task"] not in scored
    ]


def joined(score: Result, results: Sequence[Result]) -> Result:
    """The score with what else was run of its task beside it."""
    beside = dict(score.get("beside", {}))
    for one in results:
        if one["task"] == score["task"] and baseline_of(one) != "none":
            check_alike(score["asked"], one["asked"], f"{baseline_of(one)!r} of {one['task']}")
            whole = one["questions"] == score["questions"]
            name = baseline_of(one) if whole else f"{baseline_of(one)}, {one['questions']:,}"
            beside[name] = one["metrics"]
    return {**score, "beside": beside}


def check_alike(score: Result, other: Result, name: str) -> None:
    """DataError when both tell that they were asked otherwise: no difference would mean a thing."""
    for what in ALIKE:
        if what in score and what in other and score[what] != other[what]:
            raise DataError(
                f"the baseline {name} has {what} {other[what]!r}, its score {score[what]!r}; "
                "run `neva eval` on both alike."
            )


def baseline_of(result: Result) -> str:
    """ "none", "text" or "shuffled"."""
    return str(result["asked"].get("baseline", "none"))


def column_of(result: Result) -> str:
    """What a result's own figures stand under: a baseline alone is no score."""
    name = baseline_of(result)
    return "score" if name == "none" else name
