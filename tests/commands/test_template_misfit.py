"""Whoever composes is told what the template loses with the LM's tokenizer."""

import sys
from pathlib import Path

import pytest
import typer
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))  # the model room's small models
from small import write_clip, write_language

from neva.commands.compose import compose, misfit
from neva.prompts import TEMPLATES

LLAMA = "v1 or llava_v1 or llama_2 or mistral"  # what ends in "</s>"


def told(template: str, *special: str) -> str:
    """What is said of a template with a tokenizer like GPT-2's that has these special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "ĊĊ"])}
    made = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    added = [AddedToken(m, special=True, normalized=False) for m in ("<image>", *special)]
    made.add_special_tokens(added)
    return misfit(TEMPLATES[template], made, made.token_to_id("<image>"))


def test_an_end_that_is_no_token_is_said() -> None:
    assert told("v1", "</s>") == "" and told("chatml", "<|im_start|>", "<|im_end|>") == ""
    sentence = told("v1", "<|im_start|>", "<|im_end|>")
    assert "its end '</s>' is no token of this LM's" in sentence
    assert sentence.endswith("With this LM use --template chatml.")
    assert told("v1").endswith("With this LM no template does better.")


def test_a_header_that_joins_an_answer_is_said() -> None:
    """GPT-2's way of splitting two line ends; llama_3 is not offered either."""
    sentence = told("llama_3", "<|eot_id|>", "</s>")
    assert "is no token" not in sentence and "asked at another token" in sentence
    assert sentence.endswith(f"With this LM use --template {LLAMA}.")


@pytest.mark.parametrize(("template", "warned"), [("v1", False), ("chatml", True)])
def test_the_command_warns_and_composes(template: str, warned: bool, tmp_path: Path) -> None:
    clip, language = write_clip(tmp_path / "clip"), write_language(tmp_path / "lm", "llama")
    app = typer.Typer()
    app.command()(compose)
    words = ["--vision", clip, "--language", language, "--template", template]
    made = CliRunner().invoke(app, [*map(str, words), "-o", str(tmp_path / "made")])
    assert made.exit_code == 0 and (tmp_path / "made" / "neva.json").is_file()
    assert (f"Warning: template {template}: its end" in made.stderr) == warned
    assert (f"use --template {LLAMA}." in made.stderr) == warned
