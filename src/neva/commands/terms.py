"""What whoever serves or exports a checkpoint should know of it: terms, and a guessed template."""

import typer

from neva.model.checkpoint import Checkpoint


def with_terms(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint; says on stderr if a data set's licence forbids commercial use.

    Also which prompt template was guessed where nothing says it: a wrong one spoils the answers
    without a word.
    """
    if sentence := checkpoint.provenance.non_commercial:
        typer.echo(f"{checkpoint.path.name}: {sentence}", err=True)
    if sentence := _guess(checkpoint):
        typer.echo(f"{checkpoint.path.name}: {sentence}", err=True)
    return checkpoint


def _guess(checkpoint: Checkpoint) -> str:
    """How the template was guessed and what to do if it is wrong; nothing if it is known."""
    origin = checkpoint.provenance
    reasons = {
        "likeness": "which its chat template is like",
        "default": "as it has no chat template that neva knows",
    }
    if origin.template_source not in reasons:
        return ""
    return (
        f"no neva.json; prompts are written by the template {origin.template!r}, "
        f"{reasons[origin.template_source]}. If it was trained with another: "
        f"neva export {checkpoint.path} hf -o DIR --template NAME"
    )
