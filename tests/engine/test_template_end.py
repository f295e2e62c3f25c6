"""White space between an answer and its template's end is the template's, on every engine's way."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llava import byte_tokenizer
from tokenizers import AddedToken, Tokenizer

from neva.engine import open_engine
from neva.engine.decode import AnswerText
from neva.engine.protocol import Request, Sampling
from neva.prompts import TEMPLATES, ask

SPACED = ("nvgpt", "nv_dpo", "llama_2", "nv_steerlm")
ASKED = Request(ask("Is it?", images=0), (), Sampling(0.0, max_tokens=40, logprobs=True))
TEXT = st.text("aé\n <", max_size=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("bytes")
    byte_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<END>", special=True)])
    return tokenizer


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def test_the_templates_that_have_such_an_end() -> None:
    spaced = {n for n, t in TEMPLATES.items() if t.end.strip() and t.end[0].isspace()}
    assert spaced == set(SPACED)
    assert all(TEMPLATES[name].end.lstrip() in TEMPLATES[name].stop for name in SPACED)


def test_streamed_is_whole_and_without_the_ends_space(made: Tokenizer) -> None:
    @settings(deadline=None)  # the machine may be busy
    @given(TEXT, st.sampled_from(SPACED), st.booleans())
    def check(text: str, name: str, token: bool) -> None:
        template, end = TEMPLATES[name], made.token_to_id("<END>")
        answer = AnswerText(made, template.stop, False, template.end, frozenset([end]))
        space = template.end[:1] if token else template.end
        pieces = [answer.feed([one]) for one in ids(made, text + space)]
        pieces.append(answer.flush(end if token else None))
        assert "".join(pieces) == text
        assert answer.stopped

    check()


@settings(deadline=None)  # the machine may be busy
@given(TEXT)
def test_it_stays_where_the_end_did_not_follow(made: Tokenizer, text: str) -> None:
    template, end = TEMPLATES["nvgpt"], made.token_to_id("<END>")
    for last in (None, 2):  # cut, and ended by another token than the template's
        answer = AnswerText(made, template.stop, False, template.end, frozenset([end]))
        shown = "".join(answer.feed([one]) for one in ids(made, text + "\n"))
        assert shown + answer.flush(last) == text + "\n"


def test_plain_captions_end_as_before(made: Tokenizer) -> None:
    template = TEMPLATES["plain"]
    answer = AnswerText(made, template.stop, False, template.end, frozenset())
    assert answer.feed(ids(made, "a cat \nmore")) == "a cat " and answer.stopped


def steered(source: Path, folder: Path, token: bool) -> Path:
    """The tiny model with NeMo's template, whose mark is one token or twelve."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("openvino"))
    neva = {"format": 1, "stage": "composed", "template": "nvgpt", "aspect": "pad"}
    (folder / "neva.json").write_text(json.dumps(neva))
    if token:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_special_tokens([AddedToken("<extra_id_1>", special=True)])
        tokenizer.save(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config["text_config"]):
            part["eos_token_id"] = tokenizer.token_to_id("<extra_id_1>")
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_an_answer_has_no_break_of_the_templates(
    name: str, token: bool, make_checkpoint: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = steered(make_checkpoint("llama"), tmp_path / "steered", token)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    request = ASKED
    if name == "openvino":  # a grammar puts the words into its mouth
        words = json.dumps("No\n" if token else "No\n<extra_id_1>")
        request = replace(ASKED, sampling=replace(ASKED.sampling, grammar=f"root ::= {words}"))
    else:
        script = iter(ids(tokenizer, "No\n<extra_id_1>"))
        monkeypatch.setattr("neva.engine.torch_engine.choose", lambda *_: next(script))
    engine = open_engine(path, name, "fp32")
    try:
        chunks = list(engine.generate([request])[0])
    finally:
        engine.close()
    assert "".join(chunk.text for chunk in chunks) == "No"
    assert chunks[-1].finish == "stop"
    assert "".join(one.text for chunk in chunks for one in chunk.logprobs) == "No"
