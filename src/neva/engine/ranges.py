"""Numbers of a range as a grammar: which digits may stand where.

Bounds have four digits at most: xgrammar joins longer alternatives of digits into a loop, and then
the grammar lets any number through (found with openvino-genai 2026.4.1).
"""

from collections.abc import Callable, Iterator

LARGEST = 9999
"""The largest bound that is kept."""
Naturals = Callable[[int, int | None], str]
FRACTION = '("." [0-9]+)?'


def integers(low: int | None, high: int | None) -> str:
    """An EBNF expression of the whole numbers from `low` to `high`, both included."""
    return _signed(low, high, 1, naturals)


def decimals(low: int | None, high: int | None) -> str:
    """Decimal fractions from `low` to `high`, both included and both whole."""
    return _signed(low, high, 0, _fractions)


def _signed(low: int | None, high: int | None, smallest: int, naturals_of: Naturals) -> str:
    """Numbers of both signs; those below zero have a magnitude from `smallest` on."""
    parts = []
    if high is None or high >= 0:
        parts.append(naturals_of(max(low or 0, 0), high))
    if low is None or low < 0:
        nearest = smallest if high is None else max(smallest, -high)
        parts.append(f'"-" {naturals_of(nearest, None if low is None else -low)}')
    return f"({' | '.join(parts)})"


def naturals(low: int, high: int | None) -> str:
    """Whole numbers from `low` (0 or more) to `high`, without leading zeros."""
    if high == 0:
        return '"0"'
    parts: list[str] = ['"0"'] if low == 0 else []
    low = max(low, 1)
    last = 10 ** len(str(low)) - 1 if high is None else high
    for length in range(len(str(low)), len(str(last)) + 1):
        first = low if length == len(str(low)) else 10 ** (length - 1)
        parts.extend(_same_length(str(first), str(min(last, 10**length - 1))))
    if high is None:
        parts.append(f"{_digits('1', '9', len(str(low)))} [0-9]*")
    return f"({' | '.join(parts)})"


def _fractions(low: int, high: int | None) -> str:
    """Numbers from `low` up to `high`, the last of them without a fraction."""
    if high is None:
        return f"({naturals(low, None)} {FRACTION})"
    whole = f'"{high}"'
    return f"({naturals(low, high - 1)} {FRACTION} | {whole})" if low < high else whole


def _same_length(low: str, high: str) -> Iterator[str]:
    """Alternatives for the numbers between two of the same length."""
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        yield _digits(low[0], high[0], rest)
        return
    if low[0] == high[0]:
        for tail in _same_length(low[1:], high[1:]):
            yield f"{_digits(low[0], low[0], 0)} {tail}"
        return
    for tail in _same_length(low[1:], "9" * rest):
        yield f"{_digits(low[0], low[0], 0)} {tail}"
    if int(high[0]) - int(low[0]) > 1:
        yield _digits(str(int(low[0]) + 1), str(int(high[0]) - 1), rest)
    for tail in _same_length("0" * rest, high[1:]):
        yield f"{_digits(high[0], high[0], 0)} {tail}"


def _digits(first: str, last: str, rest: int) -> str:
    """One digit of a range, and `rest` more of any kind."""
    head = f'"{first}"' if first == last else f"[{first}-{last}]"
    return " ".join([head, *["[0-9]"] * rest])
