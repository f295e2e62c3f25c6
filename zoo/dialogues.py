"""Conversations, reasoning and descriptions: what `neva eval`'s single questions do not ask.

    python -m zoo.dialogues --json zoo/results/dialogues.json

Every question is asked in a conversation that holds the model's own earlier answers. The same with
the picture of another of the same set stands beside it ("shuffled"). The result has the form of
`neva eval --json`. What counts: for a country, a capital and a continent that it is in the answer;
for a number the first in the answer; for the odd one out its whole name, or a keyword alone, after
"the odd one out is" where the answer gives reasons first; for a description, and for an answer to
"What do you see?", the share of the scene's different things of which a name or keyword is in it.
"""

from __future__ import annotations

import argparse
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neva.engine import open_engine
from neva.engine.protocol import Engine, Request, Sampling, collect
from neva.evaluate import TASKS, Item, Judged, Report, read
from neva.evaluate.baseline import exchange
from neva.evaluate.normalise import bare
from neva.evaluate.report import write_json
from neva.evaluate.task import accuracy, percent, spread
from neva.images import read_image
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from neva.prompts.conversation import Conversation, ImageSlot, Turn, assistant, user
from zoo.dialogue_sets import Dialogue, Step, described, flags, scenes
from zoo.reasoning import ODD_IS

COUNTS = frozenset(("how many of a kind", "how many fly"))
DESCRIBING = frozenset(("describe", "what do you see"))
MOST_TOKENS = 64
IN_FLIGHT = 16


def plain(text: str) -> str:
    """Normalised, and without accents."""
    parts = unicodedata.normalize("NFKD", bare(text))
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def credit(step: Step, answer: str) -> float:
    """Share of what the step asks for that is in the answer, 0 to 1."""
    said = f" {plain(answer)} "
    if step.kind in COUNTS:
        numbers = [word for word in said.split() if word.isdigit()]
        return float(numbers[:1] == [step.golds[0][0]])
    if step.kind == "odd one out":
        called = [plain(name) for name in step.golds[0]]
        said = f" {said.rpartition(f' {plain(ODD_IS)} ')[2].removeprefix('the ').strip()} "
        return float(said.strip() in called or f" {called[0]} " in said)
    held = [any(f" {plain(name)} " in said for name in names) for names in step.golds]
    return sum(held) / len(held)


@dataclass
class Held:
    """A conversation as it goes: its turns, and each answer with its credit."""

    dialogue: Dialogue
    picture: Path
    turns: list[Turn] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)

    def ask(self) -> Request | None:
        """The next question's request; None at the end."""
        if len(self.judged) == len(self.dialogue.steps):
            return None
        question = self.dialogue.steps[len(self.judged)].question
        self.turns.append(user(question) if self.turns else user(ImageSlot(0), f"\n{question}"))
        sampling = Sampling(temperature=0.0, max_tokens=MOST_TOKENS)
        return Request(Conversation(tuple(self.turns)), (read_image(self.picture),), sampling)

    def hear(self, answer: str) -> None:
        """Take the answer to the last question."""
        number = len(self.judged)
        step = self.dialogue.steps[number]
        golds = tuple(names[0] for names in step.golds)
        item = Item(f"{self.dialogue.id}.{number}", step.question, self.picture, golds, step.kind)
        self.judged.append(Judged(item, answer, bare(answer), credit(step, answer)))
        self.turns.append(assistant(answer.strip() or "."))


def hold(engine: Engine, dialogues: Sequence[Dialogue], shuffled: bool = False) -> list[Judged]:
    """Hold all conversations, round by round; with `shuffled` about another's picture."""
    pictures = {one.image: one.image for one in dialogues}
    if shuffled:
        for alike in by_set(dialogues).values():
            pictures |= exchange(sorted({one.image for one in alike}), 0)
    held = [Held(one, pictures[one.image]) for one in dialogues]
    for start in range(0, len(held), IN_FLIGHT):
        group = held[start : start + IN_FLIGHT]
        while open_ones := [(one, asked) for one in group if (asked := one.ask()) is not None]:
            streams = engine.generate([asked for _, asked in open_ones])
            for (one, _), stream in zip(open_ones, streams, strict=True):
                one.hear(collect(stream)[0])
    return [judged for one in held for judged in one.judged]


def referred(dialogues: Sequence[Dialogue], judged: Sequence[Judged]) -> dict[str, float]:
    """Of the flags to which it named a country: is the capital it then gave that country's?"""
    capitals: dict[str, Step] = {}
    for one in by_set(dialogues).get("flag", []):
        capitals |= {plain(name): one.steps[1] for name in one.steps[0].golds[0]}
    answers = {one.item.id: one.answer for one in judged}
    found = []
    for one in by_set(dialogues).get("flag", []):
        named = capitals.get(plain(answers[f"{one.id}.0"]))
        if named is not None:
            found.append(credit(named, answers[f"{one.id}.1"]))
    name = "capital of the country it named"
    return {f"accuracy.{name}": percent(found), f"n.{name}": float(len(found))}


def by_set(dialogues: Iterable[Dialogue]) -> dict[str, list[Dialogue]]:
    """Conversations by the set they are of: flag, reason, describe, seen."""
    sets: dict[str, list[Dialogue]] = defaultdict(list)
    for one in dialogues:
        sets[one.id.partition("-")[0]].append(one)
    return sets


def guess(dialogues: Iterable[Dialogue]) -> dict[str, float]:
    """What the commonest answer of each kind gets where there is one; not for descriptions."""
    golds: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for one in dialogues:
        for step in one.steps:
            if step.kind not in DESCRIBING:
                golds[step.kind].append(tuple({bare(name) for name in step.golds[0]}))
    best = {
        kind: max(Counter(name for one in names for name in one).values()) / len(names)
        for kind, names in golds.items()
    }
    return {f"accuracy.{kind}": 100 * share for kind, share in best.items()}


def sets(packages: Path, work: Path) -> list[Dialogue]:
    """Every conversation: flags, reasoning, descriptions."""
    package = packages / "openmoji-17.0.0" / "package"
    countries = packages / "flag-icons-7.5.0" / "package" / "country.json"
    first = read(TASKS["openmoji"], package)[0].image  # draws what is not drawn
    assert first is not None
    return [
        *flags(package, countries, first.parent),
        *scenes(package, work / "dialogues"),
        *described(package),
    ]


def measure(checkpoint: Checkpoint, dialogues: Sequence[Dialogue], limit: int | None) -> Report:
    """All conversations with their pictures and with others'; `limit` of each set."""
    chosen = [one for alike in by_set(dialogues).values() for one in some(alike, limit)]
    start = time.perf_counter()
    with closing(open_engine(checkpoint)) as engine:
        seen, blind = hold(engine, chosen), hold(engine, chosen, shuffled=True)
        info = engine.info
    asked: dict[str, Any] = {
        "task": "dialogues", "model": checkpoint.path.name, "sha256": checkpoint.sha256,
        "engine": info.engine, "precision": info.precision, "suffix": "", "baseline": "none",
        "limit": limit, "temperature": 0.0, "max_tokens": MOST_TOKENS,
    }  # fmt: skip
    return Report(
        task="dialogues",
        summary="Conversations, reasoning and descriptions; mean credit.",
        headline="accuracy",
        asked=asked,
        total=sum(len(one.steps) for one in dialogues),
        metrics=accuracy(seen) | referred(chosen, seen),
        floor=guess(chosen),
        judged=seen,
        seconds=time.perf_counter() - start,
        beside={"shuffled": accuracy(blind) | referred(chosen, blind)},
    )


def some(dialogues: Sequence[Dialogue], limit: int | None) -> list[Dialogue]:
    """`limit` of them at even distances."""
    named = {one.id: one for one in dialogues}
    items = [Item(one.id, "", None, ("",)) for one in dialogues]
    return [named[item.id] for item in spread(items, limit)]


def main(argv: list[str] | None = None) -> int:
    """Hold every conversation with the default model, or with another checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint; the default model if left out")
    parser.add_argument("--work", type=Path, default=Path("zoo/work"), help="packages, pictures")
    parser.add_argument("--limit", type=int, help="only so many conversations of each set")
    parser.add_argument("--json", type=Path, default=Path("zoo/results/dialogues.json"))
    options = parser.parse_args(argv)
    checkpoint = Checkpoint.open(options.model or default_checkpoint())
    report = measure(checkpoint, sets(options.work / "packages", options.work), options.limit)
    write_json(report, options.json)
    for name, value in report.metrics.items():
        print(f"{name}: {value:.2f} (another's picture {report.beside['shuffled'][name]:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
