"""What the data that a checkpoint learned from forbids, said to whoever serves or exports it."""

import typer

from neva.model.checkpoint import Checkpoint


def with_terms(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint; says on stderr if a data set's licence forbids commercial use."""
    if sentence := checkpoint.provenance.non_commercial:
        typer.echo(f"{checkpoint.path.name}: {sentence}", err=True)
    return checkpoint
