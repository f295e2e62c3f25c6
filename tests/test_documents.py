"""What README and docs tell a reader to type, to open and to expect: held to the code."""

import ast
import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from documents import (
    DOCS,
    LINK,
    MODULES,
    ROOT,
    SRC,
    Command,
    anchors,
    commands,
    fences,
    is_neva,
    spans,
    table,
    tracked,
    tree,
)
from neva import cli

TYPED = [command for path in DOCS for command in commands(path)]
VERBS = [verb for verb in cli.VERBS if find_spec(f"neva.commands.{verb}")]


def parses(words: tuple[str, ...]) -> str | None:
    """What the command line has against `neva WORDS`, or None."""
    verb, *options = takewhile(lambda word: word not in (">", "|"), words)
    if verb not in VERBS:
        return f"there is no verb {verb!r}" if verb not in ("--help", "--version") else None
    try:
        cli.load(verb).make_context(verb, list(options))
    except Exception as error:  # click's usage errors, whichever click typer brings
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("command", [c for c in TYPED if is_neva(c.words)], ids=str)
def test_commands_in_blocks_parse(command: Command) -> None:
    assert parses(command.words[1:]) is None


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_recipes_fit_the_template_composed_before_them(path: Path) -> None:
    """A finetune whose recipe speaks another template than its checkpoint is refused."""
    from neva.train.recipes import recipe

    composed = None
    for words in (command.words for command in commands(path) if is_neva(command.words)):
        options = dict(pairwise(words))
        if words[1] == "compose":
            composed = options.get("--template", "v1")
        elif words[1] == "finetune" and "--recipe" in options and composed:
            assert recipe(options["--recipe"], "finetune").template in (None, composed), words


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "demo"])
def test_every_help_has_an_example_that_parses(verb: str) -> None:
    text = " ".join(str(cli.load(verb).help).split())
    examples = text.split("Example: ")[1:]
    assert examples, "a newcomer reads the example first"
    for example in examples:
        assert parses(tuple(shlex.split(example))[1:]) is None


def test_help_names_the_precisions_that_there_are() -> None:
    from neva.engine.precision import PRECISIONS

    (option,) = (p for p in cli.load("serve").params if p.name == "precision")
    assert [name for name in PRECISIONS if name not in option.help] == []


def named_verbs(text: str) -> set[str]:
    return set(re.findall(r"`(?:\.venv/bin/)?neva\s+([a-z]+)", text))


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_verbs_and_options_named_in_text_exist(path: Path) -> None:
    for span in spans(path):
        words = span.split()
        if words[0] in ("neva", ".venv/bin/neva") and len(words) > 1 and words[1].islower():
            for verb in words[1].split("|"):
                assert verb in VERBS, f"`{span}`"
                known = {name for p in cli.load(verb).params for name in (*p.opts, "--help")}
                assert known >= set(re.findall(r"(?<!\S)--?[a-z][\w-]*", span)), f"`{span}`"


def test_verbs_named_in_the_code_exist() -> None:
    """Help texts and errors send people to `neva VERB`: there must be one."""
    gone = {f"{p.name}: {v}" for p in MODULES for v in named_verbs(p.read_text()) - set(VERBS)}
    assert gone == set()


def test_every_command_module_is_a_verb() -> None:
    """A module with a function of its own name, or of its verb's, is in the table of verbs."""
    files = {p.stem: p for p in MODULES if p.parent.name == "commands" and p.stem != "__init__"}
    own = {name for name, path in files.items() if name in functions_of(path)}
    assert own - set(cli.VERBS) == set()


def functions_of(path: Path) -> set[str]:
    return {node.name for node in tree(path).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(file), f"{path.name}: no heading {target}"


def claimed_files(text: str) -> Iterator[str]:
    """Inline code that looks like a file or folder of this repository."""
    rooms = "src|docs|tests|benchmarks|samples|engine|server|prompts"
    pattern = re.compile(rf"[\w./-]+\.py|(?:{rooms}|\.ci)/[\w./-]*")
    return (span for span in re.findall(r"`([^`\s]+)`", text) if pattern.fullmatch(span))


def test_claimed_files_exist() -> None:
    """In the documents and in the code's own words; known by the end of their paths."""
    paths = [f"/{file}" for file in tracked()]
    gone = set()
    for path in [*DOCS, *MODULES]:
        text = path.read_text()
        names = set(re.findall(r"\b(?:docs|tests|benchmarks)/[\w/]+\.\w+", text))
        names |= set(claimed_files(text)) if path in DOCS else set()
        for end in {f"/{name.strip('/')}" for name in names}:
            if not any(known.endswith(end) or f"{end}/" in known for known in paths):
                gone.add(f"{path.name} names {end[1:]}")
    assert gone == set()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = {span for path in DOCS for span in spans(path) if span.startswith("make ")}
    asked = [tuple(span.split()) for span in said] + [
        command.words for command in TYPED if command.words[0] == "make"
    ]
    assert len(asked) > 3
    for words in asked:
        missing = {word for word in words[1:] if "=" not in word} - targets
        assert not missing, f"`{' '.join(words)}`"


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_python_in_documents_imports_what_exists(path: Path) -> None:
    for code in fences(path, "python"):
        if not re.search(r"^(?:from|import) ", code, re.MULTILINE):
            continue  # a sketch of an interface
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("neva"):
                file = SRC.parent / Path(*str(node.module).split("."))
                source = file.with_suffix(".py") if not file.is_dir() else file / "__init__.py"
                assert source.is_file(), node.module
                for alias in node.names:
                    assert re.search(rf"\b{alias.name}\b", source.read_text()), alias.name


# Tables in the documents


def test_every_recipe_builds_and_the_table_tells_them() -> None:
    from neva.prompts import TEMPLATES
    from neva.train.recipe import Recipe
    from neva.train.recipes import COURSES, recipe

    lines = []
    for name in COURSES:
        for stage in ("pretrain", "finetune"):
            one = recipe(name, stage)
            assert one.stage == stage and Recipe.from_json(one.to_json()) == one
            assert one.template is None or one.template in TEMPLATES
            passes = "1 pass" if one.epochs == 1 else f"{one.epochs:g} passes"
            length = f"{one.max_steps} steps" if one.max_steps else passes
            template = one.template or ("plain" if stage == "pretrain" else "the checkpoint's")
            rates = (f"{one.learning_rate:g}", str(one.batch_size), length)
            rest = (f"{one.warmup_ratio:.3g}", f"{one.beta2:g}", str(one.max_length), template)
            lines.append([f"`{name}`", stage, *rates, *rest])
    assert table(ROOT / "docs" / "training.md", "### Recipes") == lines


def test_the_records_shown_can_be_read(tmp_path: Path) -> None:
    from neva.data import read_records

    shown = fences(ROOT / "docs" / "training.md", "json")
    records = []
    for number, code in enumerate(shown):
        file = tmp_path / f"{number}.json"
        file.write_text(code if "<img" in code else f"[{code}]")
        records += read_records(file)
    images = [("00007.jpg",), ("a.png", "b/c.png"), ("a.png",)]
    assert [record.images for record in records] == images
    assert records[1].conversation.system == "Be brief."
    assert records[2].conversation.turns[1].labels == {"quality": 4, "creativity": 0}


def test_tasks_and_precisions_are_those_of_the_code() -> None:
    from neva.engine.precision import DEFAULT, PRECISIONS
    from neva.evaluate import TASKS

    told = table(ROOT / "docs" / "evaluation.md", "## Tasks")
    assert [row[:2] for row in told] == [[f"`{n}`", t.headline] for n, t in TASKS.items()]
    told = table(ROOT / "docs" / "engines.md", "## Precisions")
    yes = {True: "yes", False: "no"}
    rows = [[f"`{p.name}`", yes[p.reproducible]] for p in PRECISIONS.values()]
    assert [[row[0], row[-1].strip(" |")] for row in told] == rows
    assert rows[0][0] == f"`{DEFAULT}`"


def test_the_limits_told_are_the_defaults() -> None:
    from neva.images import Limits as Pictures
    from neva.images.pieces import MOST
    from neva.server.settings import Limits

    told = {row[0].strip("`"): row[1] for row in table(ROOT / "docs" / "serving.md", "## Limits")}
    mib = 2**20
    real = {
        name: f"{value // mib} MiB" if name.endswith("bytes") else number(value)
        for name, value in dataclasses.asdict(Limits()).items()
    }
    real["one image's pixels"] = number(Pictures().pixels)
    real["one image's side"] = number(Pictures().side)
    at_most = Pictures().scan_pixels // Pictures().pixels
    real["one JPEG's scans"] = f"{Pictures().scans}, and {at_most} at 64 million pixels"
    assert MOST["PNG"] == MOST["GIF"]
    real["pieces of one file"] = f"{MOST['JPEG']:,} (JPEG), {MOST['PNG']:,} (PNG, GIF)"
    assert told == real


def number(value: float) -> str:
    """1024, 64,000,000, 0.5."""
    return f"{value:,.0f}" if value >= 10_000 else f"{value:g}"


def test_the_endpoints_told_are_the_servers() -> None:
    sys.path.append(str(ROOT / "tests" / "server"))
    from echo_engine import EchoEngine

    from neva.server.app import create_app

    told = {
        (verb, path.split("?")[0])
        for row in table(ROOT / "docs" / "serving.md", "## Endpoints")
        for verbs, path in re.findall(r"`([A-Z, ]+) (/\S*)`", row[0])
        for verb in verbs.split(", ")
    }
    real = set()
    for path, methods in create_app(EchoEngine()).openapi()["paths"].items():
        real |= {(method.upper(), path) for method in methods}
    assert {pair for pair in real if pair not in told} == set(), "not in docs/serving.md"
    pages = {("GET", p) for p in ("/", "/docs", "/openapi.json", "/metrics", "/health", "/ping")}
    assert told - real - pages == set(), "in docs/serving.md only"


# The manual, followed


@pytest.mark.slow
def test_the_training_manual_can_be_followed(tmp_path: Path) -> None:
    """Its first commands, on its own records, with tiny models in the place of CLIP and Llama."""
    sys.path.append(str(ROOT / "tests" / "model"))
    from PIL import Image
    from small import write_clip, write_language

    manual = ROOT / "docs" / "training.md"
    write_clip(tmp_path / "clip-vit-large-patch14-336")
    write_language(tmp_path / "llama-2-7b-chat", "llama")
    for name, code in zip(("chat.json", "instruct.json"), fences(manual, "json"), strict=False):
        (tmp_path / name).write_text(f"[{code}]")
    for name in ("images/00007.jpg", "images/a.png", "images/b/c.png", "picture.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), "red").save(tmp_path / name)
    short = ["--max-steps", "2"]
    small = {"pretrain": short, "finetune": short, "chat": ["--max-tokens", "8"]}
    said = ""
    for line in fences(manual, "bash")[0].splitlines():
        verb, *options = shlex.split(line)[1:]
        words = [sys.executable, "-m", "neva", verb, *options, *small.get(verb, [])]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        said += done.stdout
    assert "No problems." in said
    assert (tmp_path / "stage2" / "final" / "neva.json").is_file()
