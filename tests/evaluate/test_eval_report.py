"""What a finished run says: JSON for programs, a page for people."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from neva.evaluate import Item, Judged, Report
from neva.evaluate.page import STYLE, page
from neva.evaluate.report import columns, commonest_misses, confusion, rows, wilson, write_json


@pytest.fixture
def report(tmp_path: Path) -> Report:
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 100), "red").save(path)
    said = [("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "<b>no way</b>"), ("no", "no")]
    judged = [
        Judged(Item(str(n), "is it <red>?", path, (gold,), "k"), read, read, float(gold == read))
        for n, (gold, read) in enumerate(said)
    ]
    return Report(
        task="toy",
        summary="Toy.",
        headline="accuracy",
        asked={"suffix": "\nShort.", "baseline": "none"},
        total=9,
        metrics={"n.k": 5.0, "accuracy.k": 60.0, "accuracy": 60.0},
        floor={"accuracy": 50.0},
        judged=judged,
        seconds=2.0,
        beside={"text": {"accuracy": 40.0, "accuracy.k": 41.0}},
    )


def test_json_holds_figures_and_every_answer(report: Report, tmp_path: Path) -> None:
    write_json(report, tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["headline"] == {"name": "accuracy", "value": 60.0}
    assert (found["questions"], found["of"], found["errors"]) == (5, 9, 0)
    assert found["asked"]["suffix"] == "\nShort."
    assert [answer["credit"] for answer in found["answers"]] == [1, 0, 1, 0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "out.json"]


def test_rows_put_the_headline_first_and_counts_beside(report: Report) -> None:
    assert columns(report) == ["figure", "score", "text", "no model"]
    assert rows(report) == [
        ["accuracy", "60.00", "40.00", "50.00"],
        ["accuracy.k (5)", "60.00", "41.00", ""],
    ]


def test_confusion(report: Report) -> None:
    assert confusion(report.judged) == (["no", "yes"], [[2, 0, 1], [1, 1, 0]])
    assert confusion(report.judged, most=1) is None
    assert commonest_misses(report.judged) == [("no", "<b>no way</b>", 1), ("yes", "no", 1)]


def test_a_right_answer_in_other_words_is_no_confusion() -> None:
    brands = ("NOKIA", "NOKIA", "nokia phone")
    said = [(brands, "nokia", 1.0), (brands, "nokia phone", 0.3), (("Yes",), "yes", 1.0)]
    judged = [
        Judged(Item(str(n), "?", None, golds), read, read, credit)
        for n, (golds, read, credit) in enumerate(said)
    ]
    assert confusion(judged) == (["NOKIA", "Yes"], [[1, 0, 1], [0, 1, 0]])


def luminance(colour: str) -> float:
    """Relative luminance of #rgb, as WCAG has it."""
    parts = [int(digit * 2, 16) / 255 for digit in colour]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", ["miss", "hit"])
def test_answers_can_be_read_in_light_and_dark(name: str) -> None:
    found = re.search(rf"\.{name} {{ color: light-dark\(#(\w+), #(\w+)\)", STYLE)
    assert found is not None
    light, dark = map(luminance, found.groups())
    assert (1 + 0.05) / (light + 0.05) > 4.5, "on white"
    assert (dark + 0.05) / (luminance("111") + 0.05) > 4.5, "on the browsers' dark canvas"


def test_page_stands_alone_and_escapes(report: Report) -> None:
    html = page(report)
    assert html.count("data:image/png;base64,") == 5
    assert "is it &lt;red&gt;?" in html
    assert "<b>no way" not in html
    assert "Misses (2)" in html
    assert "Hits (3)" in html
    assert "http" not in html


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(50, 100, 40.4, 59.6), (0, 10, 0.0, 27.8), (10, 10, 72.2, 100.0), (0, 0, 0.0, 100.0)],
)
def test_wilson(right: int, of: int, low: float, high: float) -> None:
    assert wilson(right, of) == pytest.approx((low, high), abs=0.06)


def test_a_page_of_a_baseline_says_so_on_top(report: Report) -> None:
    blind = replace(report, asked={**report.asked, "baseline": "text"})
    assert "<h1>toy, baseline text: 60.00</h1>" in page(blind)
    assert "<h1>toy: 60.00</h1>" in page(report)
