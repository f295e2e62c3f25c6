"""easy-VQA's test split: 9,673 questions with 13 answers about 1,000 pictures of one shape.

From the PyPI package easy-vqa (Victor Zhou, MIT). A third party drew it, so it is a judge: the
default model may learn from its train split, never from its test split. The question-only floor
answers every question with its commonest answer in the train split, without looking.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from neva.errors import DataError
from neva.evaluate.files import read_json
from neva.evaluate.normalise import normalise
from neva.evaluate.task import Item, Judged, accuracy, accuracy_by_kind

SHAPES = frozenset({"circle", "rectangle", "triangle"})
YES_NO = frozenset({"yes", "no"})


@dataclass(frozen=True)
class EasyVQA:
    """Exact match after normalisation; kinds are yes_no, shape and color, by the true answer."""

    name: str = "easy-vqa"
    summary: str = "Questions about one coloured shape; exact match after normalisation."
    headline: str = "accuracy"
    suffix: str = ""
    max_tokens: int = 16

    def load(self, data: Path | None) -> list[Item]:
        """The test split of the installed package, or of a folder like its `data`."""
        return read_split(package_data(data), "test")

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Right when the whole answer is the true word."""
        read = normalise(answer)
        return read, float(read == normalise(item.golds[0]))

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by kind."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """The question-only majority; `items` carry the majority of their question."""
        return accuracy_by_kind(
            [(item.kind, float(item.facts["majority"] == item.golds[0])) for item in items]
        )


def package_data(data: Path | None) -> Path:
    """The data folder, found without importing the package."""
    if data is not None:
        return data
    spec = find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise DataError(
            "easy-vqa is not installed; pip install 'neva-vlm[eval]' or easy-vqa==1.0, "
            "or give its data folder by --data DIR."
        )
    return Path(spec.origin).parent / "data"


def read_questions(root: Path, split: str) -> list[tuple[str, str, int]]:
    """(question, answer, image number) of a split."""
    path = root / split / "questions.json"
    rows = read_json(path)
    try:
        return [(str(question), str(answer), int(image)) for question, answer, image in rows]
    except (TypeError, ValueError):
        raise DataError(f"{path}: rows must be [question, answer, image number].") from None


def read_split(root: Path, split: str) -> list[Item]:
    """A split's questions, each with its majority answer in the train split."""
    majority = majorities(read_questions(root, "train"))
    pictures = root / split / "images"
    return [
        Item(
            id=f"{split}-{number}",
            question=question,
            image=pictures / f"{image}.png",
            golds=(answer,),
            kind=kind_of(answer),
            facts={"majority": majority.get(question)},
        )
        for number, (question, answer, image) in enumerate(read_questions(root, split))
    ]


def majorities(rows: Sequence[tuple[str, str, int]]) -> dict[str, str]:
    """Question to its commonest answer; among equals the one that sorts first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer, _ in rows:
        counts[question][answer] += 1
    return {
        question: min(count, key=lambda answer: (-count[answer], answer))
        for question, count in counts.items()
    }


def kind_of(answer: str) -> str:
    """yes_no, shape or color."""
    if answer in YES_NO:
        return "yes_no"
    return "shape" if answer in SHAPES else "color"
