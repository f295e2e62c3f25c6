"""The README beside the GGUF files: commands that a shell takes, and differences that are true."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import gguf_models as models
import jinja2
import pytest

from neva.deploy.gguf.chat import gguf_chat_template
from neva.model import Checkpoint
from neva.prompts import ImageSlot
from neva.prompts.render import render, text_of
from neva.server.content import Source, read_messages
from neva.server.schemas import Message


def test_the_commands_are_a_shells(tmp_path: Path) -> None:
    path = models.tiny(tmp_path / 'Prüf mod\'ell "q" 模型')
    files = [file.name for file in models.exported(path, tmp_path / "out")]
    told = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in told.splitlines() if line.startswith("llama-")]
    assert len(commands) == 2
    for words in commands:
        assert words[1:5] == ["-m", files[0], "--mmproj", files[1]]


class Unopened:
    """Opens the pictures of conversations that have none."""

    sharers = ""

    def fetch_first(self, sources: Sequence[Source]) -> None:
        assert not sources

    def take(self, source: Source) -> ImageSlot:
        raise AssertionError(source)

    def all(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("said", "alike"),
    [
        ("user assistant user", True),
        ("system user", True),
        ("user user", False),
        ("assistant user", False),
        ("user assistant assistant user", False),
        ("system system user", False),
        ("user assistant system user", False),
    ],
)
def test_conversations_that_are_arranged_otherwise_are_told(
    tmp_path: Path, said: str, alike: bool
) -> None:
    source = Checkpoint.open(models.tiny(tmp_path / "tiny"))
    messages = [{"role": role, "content": f"{i}"} for i, role in enumerate(said.split())]
    template = jinja2.Environment().from_string(gguf_chat_template(source))
    shown = template.render(messages=messages, add_generation_prompt=True)
    read = read_messages([Message.model_validate(one) for one in messages], None, Unopened())
    assert (shown == text_of(render(read.conversation, source.template, True))) == alike
    models.exported(source.path, tmp_path / "out")
    told = (tmp_path / "out" / "README.md").read_text()
    for words in ("same role in a row", "an assistant's that comes first", "all system messages"):
        assert words in told
