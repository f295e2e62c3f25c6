"""The base LM's own plain-text answers, so that stage 2 does not unlearn to chat.

Prompts are templates over the deck's everyday things; the answers are SmolLM2-135M-Instruct's,
greedy, cut at a sentence. Learning to see changes the LM by an adapter; answering some hundreds of
text-only prompts as before holds the rest in its place (self-distillation).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zoo.deck import Deck

PROMPTS = (
    "What is {a}?",
    "What is {a} used for?",
    "Write one sentence about {a}.",
    "Tell me a fact about {a}.",
    "Where would you find {a}?",
    "Describe {a} to a child.",
    "Write a short poem about {a}.",
    "Why do people like {a}?",
    "Make a question about {a}.",
    "Use the word {x} in a sentence.",
    "Give me two words that describe {a}.",
    "How would you draw {a}?",
    "Write a short story about {a}.",
    "What should I know about {a}?",
    "Name three things that are similar to {a}.",
)
MOST_TOKENS = 64


def prompts(deck: Deck, count: int, seed: int) -> list[str]:
    """Prompts in which templates and things take turns."""
    rng = np.random.default_rng(seed)
    things = [deck.objects[int(i)] for i in rng.permutation(len(deck.objects))[:count]]
    asked = []
    for place, thing in enumerate(things):
        noun = f"an {thing}" if thing[:1].lower() in "aeiou" else f"a {thing}"
        asked.append(PROMPTS[place % len(PROMPTS)].format(a=noun, x=f'"{thing}"'))
    return asked


def cut(text: str, whole: bool) -> str:
    """The answer up to its last full sentence, if the tokens ran out within one."""
    text = text.strip()
    if whole:
        return text
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1]


@torch.no_grad()
def answers(base: Path, asked: list[str], batch: int = 32) -> list[str]:
    """Greedy answers of the base LM under its own chat format without a system prompt."""
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    out: list[str] = []
    for start in range(0, len(asked), batch):
        texts = [
            f"<|im_start|>user\n{a}<|im_end|>\n<|im_start|>assistant\n"
            for a in asked[start : start + batch]
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        made = model.generate(
            **inputs,
            max_new_tokens=MOST_TOKENS,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        for row in made.tolist():
            whole = stop in row
            text = tokenizer.decode(row[: row.index(stop)] if whole else row)
            out.append(cut(text, whole))
        print(f"chatter: {len(out)} of {len(asked)}", flush=True)
    return out


def build(work: Path, count: int = 400, seed: int = 31) -> None:
    """Write ``chatter.json``, pairs of prompt and answer, unless it exists."""
    path = work / "chatter.json"
    if path.is_file():
        return
    asked = prompts(Deck.open(work), count, seed)
    pairs = [
        (a, b) for a, b in zip(asked, answers(work / "base", asked), strict=True) if len(b) > 10
    ]
    path.write_text(json.dumps(pairs, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Write the base LM's own answers to everyday prompts."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    build(parser.parse_args(argv).work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
