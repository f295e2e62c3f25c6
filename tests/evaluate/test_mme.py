"""MME: pictures are asked whole, and a sum over part of the categories is not taken for all."""

import shutil
from pathlib import Path

import pytest
from eval_double import Double
from PIL import Image

from neva.errors import DataError
from neva.evaluate import Item, Judged, evaluate
from neva.evaluate.mme import COGNITION, MME, PERCEPTION
from neva.evaluate.task import choose, spread, verify

PAIR = "Is it a cat? Please answer yes or no.\tYes\nIs it a dog? Please answer yes or no.\tNo"
MODEL = MME()


def fill(root: Path, categories: tuple[str, ...], pictures: int = 2, apart: bool = False) -> None:
    for name in categories:
        texts = root / name / "questions_answers_YN" if apart else root / name
        seen = root / name / "images" if apart else root / name
        for place in {texts, seen}:
            place.mkdir(parents=True)
        for number in range(pictures):
            (texts / f"{number:03}.txt").write_text(PAIR)
            Image.new("RGB", (8, 8), "red").save(seen / f"{number:03}.jpg")


def judged(items: list[Item], answers: list[str]) -> dict[str, float]:
    return MODEL.metrics(
        [
            Judged(one, said, *MODEL.judge(one, said))
            for one, said in zip(items, answers, strict=True)
        ]
    )


@pytest.mark.parametrize("apart", [False, True])
def test_points(tmp_path: Path, apart: bool) -> None:
    fill(tmp_path, PERCEPTION + COGNITION, apart=apart)
    items = MODEL.load(tmp_path)
    verify("mme", items)
    assert [item.question for item in items[:2]] == ["Is it a cat?", "Is it a dog?"]
    answers = ["Yes, it is", "no\n", "yes", "Yes"] + ["maybe"] * 4 * 13
    figures = judged(items, answers)
    assert figures["points.existence"] == pytest.approx(100 * (3 / 4 + 1 / 2))
    assert figures["perception"] == figures["points.existence"]
    assert figures["cognition"] == 0
    assert MODEL.judge(items[0], "maybe")[0] == "other"


def test_names_the_missing_categories(tmp_path: Path) -> None:
    fill(tmp_path, PERCEPTION)
    assert "cognition" not in MODEL.floor(MODEL.load(tmp_path)), "four more categories, all or none"
    (tmp_path / "count").rename(tmp_path / "Counts")
    with pytest.raises(DataError, match=r"lacks count \(and has Counts\)"):
        MODEL.load(tmp_path)
    (tmp_path / "Counts").rename(tmp_path / "count")
    fill(tmp_path, COGNITION[:1])
    with pytest.raises(DataError, match="lacks numerical_calculation, text_translation"):
        MODEL.load(tmp_path)
    shutil.rmtree(tmp_path / COGNITION[0])
    shutil.rmtree(tmp_path / "scene")
    (tmp_path / "scene").mkdir()
    with pytest.raises(DataError, match="scene holds no question"):
        MODEL.load(tmp_path)


@pytest.mark.parametrize("limit", [1, 2, 11, 40, 599, None])
def test_a_limit_keeps_pairs_together_and_the_floor_where_it_is(tmp_path: Path, limit: int) -> None:
    fill(tmp_path, PERCEPTION, pictures=30)
    items = MODEL.load(tmp_path)
    chosen = choose(items, limit)
    assert len(chosen) <= max(2, limit or 600)
    pairs = [one.facts["pair"] for one in chosen]
    assert pairs[::2] == pairs[1::2]
    assert MODEL.floor(chosen)["perception"] == pytest.approx(500)
    assert choose(items, None) == items
    report = evaluate(MODEL, Double(lambda request: "Yes"), limit, items=items)
    assert [one.item for one in report.judged] == chosen


def test_a_lone_question_is_no_pair() -> None:
    items = [
        Item(f"{pair}/{gold}", "?", None, (gold,), "count", {"pair": f"{pair}"})
        for pair in range(30)
        for gold in ("yes", "no")
    ]
    assert MODEL.floor(items)["points.count"] == 50
    assert MODEL.floor(spread(items, 10))["points.count"] == 100, "right, but never twice"
    assert choose(items[::2], 3) == spread(items[::2], 3)
