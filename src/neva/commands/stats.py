"""`neva stats`: how long the samples are and how much of them is learned, in numbers and a plot."""

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from neva.commands.check import check_places, open_encoding, progress_bar, read_entries
from neva.commands.pretrain import DATA
from neva.data import Record, find_datasets
from neva.data.stats import Stats, measure

MODEL = typer.Option("--model", help="Checkpoint whose tokenizer and template count the tokens.")
TEMPLATE = typer.Option("--template", help="Another template than the checkpoint's.")
LENGTH = typer.Option(
    "--max-length", min=1, help="Longest sample in tokens, the context at most; longer are cut."
)
PLOT = typer.Option("--plot", help="Write a plot here (PNG; needs the training install).")
JSON = typer.Option("--json", help="Write the numbers here.")


def stats(
    data: Annotated[list[str], DATA],
    model: Annotated[Path, MODEL],
    template: Annotated[str | None, TEMPLATE] = None,
    max_length: Annotated[int, LENGTH] = 2048,
    plot: Annotated[Path | None, PLOT] = None,
    json: Annotated[Path | None, JSON] = None,
) -> None:
    """Count the tokens of training data, and those of them that are learned.

    Example: neva stats --data chat.json --model model --plot lengths.png
    """
    check_places(plot, json)
    encoding = open_encoding(model, template, max_length)
    assert encoding is not None  # --model is required
    records = [entry for entry in read_entries(find_datasets(data)) if isinstance(entry, Record)]
    with progress_bar("Counting") as progress:
        found = measure(records, encoding, progress)
    if json is not None:
        json.write_text(json_format.dumps(found.to_json(), indent=1), encoding="utf-8")
    if plot is not None:
        draw(found, plot)
    typer.echo(describe(found))


def describe(found: Stats) -> str:
    """The numbers for people."""
    told = found.to_json()
    lines = [
        f"{told['samples']:,} samples ({told['broken']:,} more cannot be used), "
        f"{told['images']:,} images, {told['tokens']:,} tokens, "
        f"{100 * told['supervised_share']:.1f}% of them learned"
    ]
    for name, title in (("length", "tokens"), ("supervised", "learned")):
        values = told[f"{name}_quantiles"].items()
        lines.append(f"{title:>8}: " + "  ".join(f"{q} {value:,}" for q, value in values))
    return "\n".join(lines)


def draw(found: Stats, path: Path) -> None:
    """Histograms of lengths and of supervised shares, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    left.hist(found.lengths, bins=50)
    left.set(xlabel="tokens in a sample", ylabel="samples")
    right.hist(100 * found.supervised / found.lengths, bins=50, range=(0, 100))
    right.set(xlabel="learned tokens, % of a sample")
    figure.suptitle(f"{len(found.lengths):,} samples, {100 * found.share:.1f}% of tokens learned")
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=120)
    pyplot.close(figure)
