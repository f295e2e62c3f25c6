"""POPE: does the model see objects that are not there? Yes/no questions in three splits.

The folder holds coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json (JSON
lines with question_id, image, text, label) and val2014/. LLaVA reports F1 averaged over the splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neva.errors import DataError
from neva.evaluate.files import field, folder, read_lines, text, yes_or_no
from neva.evaluate.task import LLAVA_TOKENS, SHORT_ANSWER, Item, Judged

SPLITS = ("random", "popular", "adversarial")
DENIALS = frozenset({"No", "no", "not"})


@dataclass(frozen=True)
class POPE:
    """Accuracy, precision, recall, F1 and share of "yes", by split and averaged over the splits."""

    name: str = "pope"
    summary: str = "POPE on COCO; F1 of 'yes' averaged over the three splits."
    headline: str = "f1"
    suffix: str = SHORT_ANSWER
    max_tokens: int = LLAVA_TOKENS

    def load(self, data: Path | None) -> list[Item]:
        """All three splits."""
        root = folder(self.name, data, "coco_pope_{random,popular,adversarial}.json and val2014/")
        return [item for split in SPLITS for item in self.read_split(root, split)]

    def read_split(self, root: Path, split: str) -> list[Item]:
        """One split; its ids begin anew in each, so they carry its name."""
        path = root / f"coco_pope_{split}.json"
        items = [
            Item(
                id=f"{split}-{field(row, 'question_id', f'{path}, line {line}')}",
                question=text(row, "text", f"{path}, line {line}"),
                image=root / "val2014" / str(field(row, "image", f"{path}, line {line}")),
                golds=(yes_or_no(field(row, "label", f"{path}, line {line}"), path, line),),
                kind=split,
            )
            for line, row in read_lines(path)
        ]
        if not items:
            raise DataError(f"{path} holds no question; download it again.")
        return items

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """LLaVA's reading: "no" if the first sentence denies, else "yes"."""
        words = answer.strip().split(".")[0].replace(",", "").split(" ")
        read = "no" if DENIALS & set(words) else "yes"
        return read, float(read == item.golds[0])

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """The five figures by split (f1.random, ...) and their means over the splits there are."""
        splits = {
            split: rates(
                [(one.read, one.item.golds[0]) for one in judged if one.item.kind == split]
            )
            for split in SPLITS
            if any(one.item.kind == split for one in judged)
        }
        names = ("f1", "accuracy", "precision", "recall", "yes_ratio")
        means = {
            name: sum(figures[name] for figures in splits.values()) / len(splits) for name in names
        }
        return means | {
            f"{name}.{split}": splits[split][name] for split in splits for name in names
        }

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """Always "yes"."""
        return self.metrics([Judged(item, "Yes", "yes", 0.0) for item in items])


def rates(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """(read, true) pairs to figures in percent; "yes" is the positive, and 0/0 is 0."""
    said = sum(read == "yes" for read, _ in pairs)
    there = sum(true == "yes" for _, true in pairs)
    both = sum(read == true == "yes" for read, true in pairs)
    precision = both / said if said else 0.0
    recall = both / there if there else 0.0
    return {
        "accuracy": 100 * sum(read == true for read, true in pairs) / len(pairs),
        "precision": 100 * precision,
        "recall": 100 * recall,
        "f1": 100 * 2 * both / (said + there) if both else 0.0,
        "yes_ratio": 100 * said / len(pairs),
    }
