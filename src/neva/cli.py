"""The command `neva`: a table of verbs, each imported only when it is called.

`neva --help` imports no verb, so it is instant, and `neva chat` never imports what `neva pretrain`
needs. What a user can mend is one sentence on stderr and exit code 1; wrong usage is exit code 2;
anything else is a fault of ours and says so, with the way to its traceback.
"""

import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from neva.errors import NevaError

# Verb: (name of its function, one line of help). The module is neva.commands.<verb>.
VERBS = {
    "demo": ("demo", "A first minute: ask the default model about a sample picture."),
    "chat": ("chat", "Ask about a picture, once or in a conversation."),
    "serve": ("serve", "Serve a model behind NVIDIA's and OpenAI's APIs."),
    "key": ("key", "Make, list, rotate and remove the server's API keys."),
    "conversations": ("conversations", "List, export and delete what a server has stored."),
    "compose": ("compose", "Join a CLIP and a GPT by a projector into a checkpoint."),
    "import": ("import_checkpoint", "Make a checkpoint of one of LLaVA's own or of NeMo's."),
    "check": ("check", "Verify training records and their images before a run."),
    "stats": ("stats", "Lengths and supervised share of training data."),
    "cache": ("cache", "Cache the frozen CLIP's features of a data set."),
    "plan": ("plan", "Memory, FLOPs and hours of a recipe on given hardware."),
    "pretrain": ("pretrain", "Stage 1: train the projector."),
    "finetune": ("finetune", "Stage 2: train the projector and the GPT."),
    "report": ("report", "Write a training run's report anew, one HTML page."),
    "eval": ("evaluate", "Measure a model by a VQA benchmark."),
    "bench": ("bench", "Measure latency and throughput of a model or a server."),
    "export": ("export", "Write a checkpoint in another format."),
    "card": ("card", "Write a checkpoint's model card."),
}

# What the serving install leaves out: (module, how to install it).
EXTRAS = {
    "torch": "pip install torch, the build that fits the machine, then 'neva-vlm[train]'",
    "transformers": "pip install 'neva-vlm[train]'",
    "peft": "pip install 'neva-vlm[train]'",
    "matplotlib": "pip install 'neva-vlm[train]'",
}

DEBUG = "NEVA_DEBUG"


class Verbs(TyperGroup):
    """A group whose entries are one-line place holders until one of them is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            verb: TyperCommand(verb, help=line)
            for verb, (_, line) in VERBS.items()
            if find_spec(f"neva.commands.{verb}") is not None
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the verb as usual (with typo suggestions), then put the real one in its place."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if found is not None and name in VERBS else found, rest


def load(verb: str) -> Any:
    """Import the verb's module and make its function a command."""
    function, _ = VERBS[verb]
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name=verb)(getattr(import_module(f"neva.commands.{verb}"), function))
    return typer.main.get_command(single)


app = typer.Typer(
    cls=Verbs,
    name="neva",
    help="Make, measure and serve vision-language models: a frozen CLIP, a projector, a GPT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version  # slow to import, seldom wanted

        typer.echo(f"neva {version('neva-vlm')}")
        raise typer.Exit


@app.callback()
def options(
    shown: bool = typer.Option(
        False, "--version", callback=show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of `neva` itself; each verb has its own."""


def main() -> None:
    """Run the command line; the exit code is 0 fine, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except NevaError as error:
        fail(f"neva: {error}", error)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # a full disk, a forbidden folder: its words name the file
        fail(f"neva: {error}", error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            fault(error)
        fail(f"neva: {missing} is not installed; this verb needs it: {EXTRAS[missing]}", error)
    except Exception as error:
        fault(error)


def fault(error: Exception) -> NoReturn:
    """Own up to an error that no user can mend."""
    words = f"neva: a fault of ours: {type(error).__name__}: {error}"
    fail(f"{words} (set {DEBUG}=1 for the traceback, and please report it)", error)


def fail(sentence: str, error: Exception) -> NoReturn:
    """Print the sentence (and the traceback, if asked for) on stderr; leave with 1."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    typer.echo(sentence, err=True)
    sys.exit(1)
