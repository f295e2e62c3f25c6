"""Does the default model still talk? Its base LM and itself, on text alone, before and after.

    python -m zoo.text_check --json zoo/results/text-check.json

Two measures on the fixed texts of `text_check.json`: greedy answers to plain prompts, held to a
pattern that a right answer has, and the mean negative log likelihood (nats a token, float32) of
written answers given their questions. "Before" is the same checkpoint with the adapter left out,
so that template, engine and precision are the same and only the training differs. The result has
the form of `neva eval --json`, the base LM beside the score.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neva.engine import open_engine
from neva.evaluate import Item, Judged, Report, evaluate
from neva.evaluate.files import read_json
from neva.evaluate.report import answer_json, write_whole
from neva.evaluate.task import accuracy
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from neva.nano.assemble import assemble
from neva.nano.base import find_base
from neva.nano.manifest import WEIGHTS, read_manifest
from neva.prompts.conversation import Conversation, assistant, user
from neva.prompts.encode import Encoded, encode

TEXTS = Path(__file__).with_name("text_check.json")
BESIDE = "base LM"
NATS = "nats a token (less is better)"
ROW = 512  # tokens that are run together


@dataclass(frozen=True)
class Plain:
    """Prompts without pictures; an answer counts when it holds the prompt's pattern."""

    name: str = "text-check"
    summary: str = "Plain prompts without a picture; the answer must hold a pattern."
    headline: str = "accuracy"
    suffix: str = ""
    max_tokens: int = 48

    def load(self, data: Path | None) -> list[Item]:
        """The prompts of a file like `text_check.json`."""
        return [
            Item(f"{kind}-{number}", prompt, None, (pattern,), kind)
            for number, (kind, prompt, pattern) in enumerate(read_json(data or TEXTS)["prompts"])
        ]

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Right when the pattern is found, whatever its case."""
        found = re.search(item.golds[0], answer, re.IGNORECASE | re.DOTALL)
        return (found.group() if found else ""), float(found is not None)

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall and by kind."""
        return accuracy(judged)

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """None: no guess without a model answers them."""
        return {}


def without_adapter(folder: Path) -> Checkpoint:
    """The default model as it was before training: the packaged base LM's own weights."""
    manifest = replace(read_manifest(WEIGHTS), scale=0.0)
    assemble(folder, WEIGHTS, manifest, find_base())
    return Checkpoint.open(folder)


def answers(checkpoint: Checkpoint, limit: int | None) -> Report:
    """The prompts, asked greedily."""
    identity = {"model": checkpoint.path.name, "sha256": checkpoint.sha256}
    with closing(open_engine(checkpoint)) as engine:
        return evaluate(Plain(), engine, limit, data=TEXTS, model=identity)


def texts(limit: int | None) -> list[tuple[str, Conversation]]:
    """(kind, question and answer)."""
    rows = read_json(TEXTS)["texts"][:limit]
    return [(kind, Conversation((user(ask), assistant(answer)))) for kind, ask, answer in rows]


def likelihood(checkpoint: Checkpoint, limit: int | None) -> dict[str, float]:
    """Mean nats a token of the written answers, their end included, overall and by kind."""
    import torch

    from neva.model.forward import packed_forward
    from neva.model.load import load_model

    model = load_model(checkpoint, dtype=torch.float32)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    with torch.inference_mode():
        for kind, row in rows(checkpoint, texts(limit)):
            loss, count = packed_forward(model, packed(row), checkpoint.pixels)
            for name in (NATS, f"{NATS}, {kind}"):
                sums[name][0] += float(loss)
                sums[name][1] += count
    return {name: total / count for name, (total, count) in sums.items()}


def rows(
    checkpoint: Checkpoint, asked: Sequence[tuple[str, Conversation]]
) -> Iterator[tuple[str, list[Encoded]]]:
    """(kind, texts that are run together): of one kind and at most ROW tokens."""
    waiting: dict[str, list[Encoded]] = defaultdict(list)
    for kind, said in asked:
        one = encode(
            said, checkpoint.template, checkpoint.tokenizer, checkpoint.image_token_id,
            checkpoint.image_tokens,
        )  # fmt: skip
        if waiting[kind] and sum(map(len, waiting[kind])) + len(one) > ROW:
            yield kind, waiting.pop(kind)
        waiting[kind].append(one)
    yield from waiting.items()


def packed(row: Sequence[Encoded]) -> Any:
    """Whole texts, one after another, as the training forward takes them."""
    import torch

    from neva.model.forward import PackedInputs

    ends = torch.tensor([0, *map(len, row)]).cumsum(0)
    return PackedInputs(
        ids=torch.tensor([id for one in row for id in one.ids]),
        positions=torch.cat([torch.arange(len(one)) for one in row]),
        cu_seqlens=ends.to(torch.int32),
        supervised=torch.tensor([target for one in row for target in one.supervised]),
    )


def check(after: Checkpoint, before: Checkpoint, limit: int | None = None) -> dict[str, Any]:
    """Both models on both measures, as a result of `neva eval` with the base LM beside it."""
    start = time.perf_counter()
    reports = {name: answers(one, limit) for name, one in (("after", after), ("before", before))}
    nats = {"after": likelihood(after, limit), "before": likelihood(before, limit)}
    figures = {name: {**report.metrics, **nats[name]} for name, report in reports.items()}
    result = replace(
        reports["after"],
        metrics=figures["after"],
        beside={BESIDE: figures["before"]},
        seconds=time.perf_counter() - start,
    ).as_json()
    asked = result["asked"] | {"baseline": "none", "before": before.sha256}
    old = [answer_json(one) for one in reports["before"].judged]
    return result | {"asked": asked, "texts": len(texts(limit)), "answers_before": old}


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Figures and answers, for a person."""
    for name, value in result["metrics"].items():
        if not name.startswith("n."):
            yield f"{name}: {value:.3f} (base LM {result['beside'][BESIDE][name]:.3f})"
    for new, old in zip(result["answers"], result["answers_before"], strict=True):
        marks = "".join("+" if one["credit"] else "-" for one in (new, old))
        yield f"{marks} {new['question']} | {new['answer']!r} | before: {old['answer']!r}"


def main(argv: list[str] | None = None) -> int:
    """Ask and measure the default model, or another checkpoint, and its base LM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint; the default model if left out")
    parser.add_argument("--limit", type=int, help="only so many prompts and texts")
    parser.add_argument("--json", type=Path, help="write the figures and every answer here")
    options = parser.parse_args(argv)
    after = Checkpoint.open(options.model or default_checkpoint())
    with tempfile.TemporaryDirectory(prefix="neva-before-") as folder:
        result = check(after, without_adapter(Path(folder)), options.limit)
    print("\n".join(lines(result)))
    if options.json is not None:
        write_whole(options.json, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
