"""MME: fourteen abilities, two yes/no questions a picture, right only together in "acc+".

The folder holds one folder a category. In it pictures and, beside them or in
questions_answers_YN/ (pictures then in images/), a text file of the same name with two lines
"question<TAB>answer". A category scores 100 x (acc + acc+), at most 200.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neva.errors import DataError
from neva.evaluate.files import folder, read_text, yes_or_no
from neva.evaluate.task import SHORT_ANSWER, Item, Judged, percent

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark",
    "artwork", "OCR",
)  # fmt: skip
COGNITION = (
    "commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning",
)  # fmt: skip
PICTURES = (".jpg", ".png", ".jpeg")
# MME's own request, which LLaVA replaces by its suffix.
REQUEST = "Please answer yes or no."


@dataclass(frozen=True)
class MME:
    """Points, not percent: perception up to 2000, cognition up to 800."""

    name: str = "mme"
    summary: str = "MME; points over ten perception categories (and four of cognition)."
    headline: str = "perception"
    suffix: str = SHORT_ANSWER
    max_tokens: int = 16

    def load(self, data: Path | None) -> list[Item]:
        """The ten categories of perception, and the four of cognition if any of them is there."""
        root = folder(self.name, data, "a folder for each category (existence, count, ...)")
        found = {path.name for path in root.iterdir() if path.is_dir()}
        wanted = PERCEPTION + (COGNITION if found & set(COGNITION) else ())
        there = [name for name in wanted if name in found]
        if len(there) < len(wanted):
            missing = ", ".join(name for name in wanted if name not in found)
            others = ", ".join(sorted(found - set(wanted)))
            also = f" (and has {others})" if others else ""
            raise DataError(
                f"{root} lacks {missing}{also}; a sum over part of the categories is not MME's: "
                "put them there or correct --data."
            )
        return [item for name in there for item in self.read_category(root / name, name)]

    def read_category(self, root: Path, category: str) -> list[Item]:
        """Two items for every text file."""
        apart = root / "questions_answers_YN"
        texts, pictures = (apart, root / "images") if apart.is_dir() else (root, root)
        found = sorted(texts.glob("[!.]*.txt"))  # no ._NAME.txt, which macOS packs beside each
        if not found:
            raise DataError(f"{texts} holds no question (*.txt); put the category's files there.")
        return [
            item
            for text in found
            for item in self.read_pair(text, picture_of(text.stem, pictures), category)
        ]

    def read_pair(self, text: Path, picture: Path, category: str) -> list[Item]:
        """The two questions of a picture."""
        rows = [line.split("\t") for line in read_text(text).splitlines() if line.strip()]
        if len(rows) != 2 or any(len(row) != 2 for row in rows):
            raise DataError(f"{text}: must hold two lines of question, tab, answer.")
        return [
            Item(
                id=f"{category}/{text.stem}/{number}",
                question=question.replace(REQUEST, "").strip(),
                image=picture,
                golds=(yes_or_no(answer, text, number),),
                kind=category,
                facts={"pair": f"{category}/{text.stem}"},
            )
            for number, (question, answer) in enumerate(rows, 1)
        ]

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """MME's reading: "yes" or "no" among the first four letters, else "other"."""
        start = answer.strip().lower()[:4]
        read = "yes" if "yes" in start else "no" if "no" in start else "other"
        return read, float(read == item.golds[0])

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Points by category and the two sums."""
        by_category: dict[str, list[Judged]] = defaultdict(list)
        for one in judged:
            by_category[one.item.kind].append(one)
        points = {category: score(members) for category, members in by_category.items()}
        sums = {"perception": whole(points, PERCEPTION)}
        if points.keys() & set(COGNITION):
            sums["cognition"] = whole(points, COGNITION)
        return sums | {f"points.{category}": value for category, value in points.items()}

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Always "yes"."""
        return self.metrics(
            [Judged(item, "Yes", "yes", float(item.golds[0] == "yes")) for item in items]
        )


def whole(points: Mapping[str, float], names: Sequence[str]) -> float:
    """The sum over all of `names`; those that --limit left out count like the mean of the rest."""
    there = [points[name] for name in names if name in points]
    return sum(there) * (len(names) / len(there)) if there else 0.0


def picture_of(stem: str, pictures: Path) -> Path:
    """The picture with this stem; where there is none, its first spelling, to be named."""
    spellings = [pictures / f"{stem}{ending}" for ending in PICTURES]
    return next((path for path in spellings if path.is_file()), spellings[0])


def score(members: Sequence[Judged]) -> float:
    """100 x (accuracy of questions + share of pictures with both right).

    A picture of which only one question was asked is no pair, and has no part in the second.
    """
    pairs: dict[str, list[float]] = defaultdict(list)
    for one in members:
        pairs[one.item.facts["pair"]].append(one.credit)
    right = sum(one.credit for one in members) / len(members)
    whole_pairs = [all(credits) for credits in pairs.values() if len(credits) == 2]
    return 100 * right + percent([float(both) for both in whole_pairs])
