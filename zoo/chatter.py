"""The base LM's own plain-text talk, so that stage 2 does not unlearn to chat.

Learning to see changes the LM by an adapter; text-only records in the base LM's own words hold the
rest in its place (self-distillation). Prompts are of two kinds: templates over the deck's everyday
things, and what the base LM itself writes where the user speaks (Magpie, Xu et al. 2024,
arXiv:2406.08464), after its first words, since so small a model starts anywhere. Answers are
sampled from its whole distribution, at temperature 1: greedy ones taught the adapter to be surer
than the base LM is, and of other written answers it then thought less (3.53 nats a token where the
base LM has 2.58).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
OPENERS = (
    "What is the", "What are some", "What does", "How do I", "How can I", "How does", "Why do",
    "Why is", "Who was", "When should I", "Can you explain", "Can you help me", "Tell me about",
    "Write a short", "Give me some", "Is it better to", "I feel", "I want to", "My friend",
    "Explain why",
)  # fmt: skip
"""How the base LM's own prompts begin."""
ASKED_TOKENS, ANSWER_TOKENS = 32, 96
BATCH = 128
SHORT_PROMPT = re.compile(r"[A-Z][^\n:]{12,160}[.?!]")
"""What the base LM wrote as a user is kept when it is a sentence or two that ask for no other
text: no list, no "the following:"."""


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


class Talker:
    """The base LM under its own chat format without a system prompt."""

    def __init__(self, base: Path, seed: int) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base, padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self.stop = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        torch.manual_seed(seed)

    def prompts(self, count: int) -> list[str]:
        """``count`` different prompts of its own."""
        found: dict[str, None] = {}
        while len(found) < count:
            begun = [OPENERS[place % len(OPENERS)] for place in range(BATCH)]
            made = self._sample([f"<|im_start|>user\n{a}" for a in begun], ASKED_TOKENS, 0.8)
            whole = [f"{a} {b}" for a, (b, ended) in zip(begun, made, strict=True) if ended]
            found |= {text: None for text in whole if SHORT_PROMPT.fullmatch(text)}
            print(f"chatter: {len(found)} of {count} prompts", flush=True)
        return list(found)[:count]

    def answers(self, asked: Sequence[str]) -> list[str]:
        """An answer to each prompt, cut at a sentence."""
        out: list[str] = []
        for start in range(0, len(asked), BATCH):
            texts = [
                f"<|im_start|>user\n{a}<|im_end|>\n<|im_start|>assistant\n"
                for a in asked[start : start + BATCH]
            ]
            out += [cut(text, whole) for text, whole in self._sample(texts, ANSWER_TOKENS)]
            print(f"chatter: {len(out)} of {len(asked)} answers", flush=True)
        return out

    @torch.no_grad()
    def _sample(
        self, texts: list[str], most: int, temperature: float = 1.0
    ) -> list[tuple[str, bool]]:
        """(what follows each text, whether it ended by itself)."""
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True)
        made = self.model.generate(
            **inputs,
            max_new_tokens=most,
            do_sample=True,
            temperature=temperature,
            top_p=1.0,
            top_k=0,
            eos_token_id=self.stop,
            pad_token_id=self.tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :].tolist()
        ends = [row.index(self.stop) if self.stop in row else None for row in made]
        texts = self.tokenizer.batch_decode([r[:end] for r, end in zip(made, ends, strict=True)])
        return [(text.strip(), end is not None) for text, end in zip(texts, ends, strict=True)]


THINGS, OWN = 300, 900
"""Prompts about things, and prompts of the base LM's own."""
SEED = 31


def build(
    work: Path, things: int = THINGS, own: int = OWN, seed: int = SEED, out: Path | None = None
) -> None:
    """Write pairs of prompt and answer to ``out`` (``WORK/chatter.json``) unless it exists."""
    path = out or work / "chatter.json"
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    talker = Talker(work / "base", seed)
    asked = prompts(Deck.open(work), things, seed) + talker.prompts(own)
    pairs = [(a, b) for a, b in zip(asked, talker.answers(asked), strict=True) if len(b) > 10]
    path.write_text(json.dumps(pairs, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Write prompts and answers of the base LM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--things", type=int, default=THINGS, help="prompts about things")
    parser.add_argument("--own", type=int, default=OWN, help="prompts of the base LM's own")
    parser.add_argument("--seed", type=int, default=SEED, help="another: other prompts and answers")
    o = parser.parse_args(argv)
    build(o.work, o.things, o.own, o.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
