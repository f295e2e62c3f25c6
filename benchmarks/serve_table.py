"""The benchmark's JSON files as Markdown: a table per shape, the best of each column in bold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A figure: how it is found in a result, and which end of the scale is better."""

    title: str
    find: Callable[[Result], float]
    more: bool = False
    digits: int = 0


def _at(*keys: str) -> Callable[[Result], float]:
    def find(result: Result) -> float:
        value: Any = result
        for key in keys:
            value = value[key]
        return float(value)

    return find


COLUMNS = (
    Column("install MB", _at("install_mb")),
    Column("load s", _at("load_s"), digits=1),
    Column("peak RSS MB", _at("peak_mb")),
    Column("TTFT new image ms", _at("ttft_new_image_ms", "p50")),
    Column("TTFT same image ms", _at("ttft_same_image_ms", "p50")),
    Column("TTFT turn 2 ms", _at("ttft_turn_2_ms", "p50")),
    Column("decode tok/s", _at("decode_tokens_per_s"), more=True),
    *(
        Column(f"tok/s, {n} client{'s' * (n > 1)}", _at(f"clients_{n}", "tokens_per_s"), more=True)
        for n in (1, 8, 32)
    ),
)
RAW = "raw "


def table(results: Sequence[Result]) -> str:
    """All tables, and what HTTP and Python cost where both ends were measured."""
    shapes = list(dict.fromkeys(result["shape"] for result in results))
    pieces: list[str] = []
    for shape in shapes:
        rows = [result for result in results if result["shape"] == shape]
        pieces += [f"### {shape}", _figures(rows), _crowds(rows), _overhead(rows)]
    return "\n\n".join(piece for piece in pieces if piece)


def _figures(rows: Sequence[Result]) -> str:
    lines = [_row(["peer", *(column.title for column in COLUMNS)]), _rule(len(COLUMNS) + 1)]
    best = [_best(rows, column) for column in COLUMNS]
    for row in rows:
        if "failed" in row:
            lines.append(_row([row["peer"], f"failed: {row['failed'].splitlines()[0][:160]}"]))
            continue
        cells = [_cell(row, column, mark) for column, mark in zip(COLUMNS, best, strict=True)]
        lines.append(_row([row["peer"], *cells]))
    return "\n".join(lines)


def _best(rows: Sequence[Result], column: Column) -> float | None:
    """The best figure among the servers; the raw engine does not compete."""
    servers = [row for row in rows if not row["peer"].startswith(RAW)]
    values = [value for row in servers if (value := _value(row, column)) is not None]
    return (max if column.more else min)(values, default=None)


def _value(row: Result, column: Column) -> float | None:
    try:
        return round(column.find(row), column.digits)
    except (KeyError, TypeError):
        return None


def _cell(row: Result, column: Column, best: float | None) -> str:
    value = _value(row, column)
    if value is None:
        return ""
    text = f"{value:.{column.digits}f}"
    return f"**{text}**" if value == best and not row["peer"].startswith(RAW) else text


def _crowds(rows: Sequence[Result]) -> str:
    """p50 / p95 / p99 under load, and how many answers were whole in time."""
    lines = [_row(["peer", "clients", "TTFT ms", "between pieces ms", "whole"]), _rule(5)]
    for row in rows:
        for clients in (1, 8, 32):
            one = row.get(f"clients_{clients}")
            if one:
                whole = f"{one['finished']} of {one['requests']}"
                cells = [_spread(one["ttft_ms"]), _spread(one["gap_ms"]), whole]
                lines.append(_row([row["peer"], str(clients), *cells]))
    return "\n".join(lines) if len(lines) > 2 else ""


def _spread(times: Mapping[str, float]) -> str:
    return " / ".join(f"{times[share]:.0f}" for share in ("p50", "p95", "p99")) if times else ""


def _overhead(rows: Sequence[Result]) -> str:
    """Ours against the raw engine of the same precision."""
    named = {row["peer"]: row for row in rows if "failed" not in row}
    lines = []
    for name, raw in named.items():
        ours = named.get(name.replace(RAW, "neva "))
        if not name.startswith(RAW) or ours is None:
            continue
        times = ", ".join(
            f"{title} {_at(key, 'p50')(ours) - _at(key, 'p50')(raw):+.1f} ms"
            for title, key in (
                ("new image", "ttft_new_image_ms"),
                ("same image", "ttft_same_image_ms"),
                ("turn 2", "ttft_turn_2_ms"),
            )
        )
        rates = ", ".join(
            f"{clients}: {100 * (_rate(ours, clients) / _rate(raw, clients) - 1):+.1f}%"
            for clients in (1, 8, 32)
            if f"clients_{clients}" in ours and f"clients_{clients}" in raw
        )
        lines.append(
            f"HTTP and Python on top of {name}: TTFT {times}; tokens/s by clients {rates}."
        )
    return "\n".join(lines)


def _rate(result: Result, clients: int) -> float:
    return _at(f"clients_{clients}", "tokens_per_s")(result)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return _row(["-"] * columns)
