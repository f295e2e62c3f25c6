"""A checkpoint's model card, in the manner of NVIDIA's: what can be read is read, not claimed.

Architecture, data and recipe come from the checkpoint, figures from the JSON files of `neva eval`.
What only its maker can say (licence, bias, privacy, safety) comes from a notes file; a field that
nobody filled in says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from neva.deploy.beside import baseline_of, column_of
from neva.deploy.notes import SOURCE_FIELDS, SUBCARDS, UNSAID, Notes
from neva.model.checkpoint import Checkpoint
from neva.model.keys import PROJECTOR, VISION
from neva.model.shapes import feature_layers, text_config, vision_config
from neva.model.weights import tensor_entries

METHOD = (
    "An image becomes patch features by a frozen CLIP; a projector turns them into embeddings, "
    "which stand among those of the text before a transformer language model, whose tokens are "
    "the answer."
)
OUTPUT = {"Output format": "Text, streamed", "Output parameters": "None"}
BLIND = {
    "text": " No score of the model: asked without the picture.",
    "shuffled": " No score of the model: asked with another question's picture.",
}
PROTOTYPE = Path(__file__).with_name("prototype.md")


def card(
    checkpoint: Checkpoint,
    results: Sequence[Mapping[str, Any]],
    notes: Notes,
    pictures: Sequence[tuple[str, str]] = (),
) -> str:
    """The card as Markdown; `pictures` are (what it shows, file beside the card)."""
    sections = (
        overview(checkpoint, notes),
        "## Model architecture\n\n" + table(("", ""), architecture(checkpoint).items()),
        "## Input\n\n" + table(("", ""), entrance(checkpoint).items()),
        "## Output\n\n" + table(("", ""), OUTPUT.items()),
        "## Software integration\n\n" + table(("", ""), integration().items()),
        "## Training data\n\n" + data(checkpoint, notes),
        "## Recipe\n\n" + recipe(checkpoint),
        "## Inference\n\n" + table(("", ""), inference(notes).items()),
        "## Evaluation\n\n" + evaluation(results, notes, pictures),
        "## Ethical considerations\n\n" + (notes.ethics or UNSAID),
        *(subcard(title, notes, checkpoint, results) for title in SUBCARDS),
        "## Prototype\n\n" + PROTOTYPE.read_text(encoding="utf-8"),
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    shown = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in shown)


def cell(value: object) -> str:
    """One cell: no line breaks, no bars that would end it."""
    return " ".join(str(value).split()).replace("|", "\\|")


def overview(checkpoint: Checkpoint, notes: Notes) -> str:
    """Title, what it is, and where it comes from."""
    parents = ", ".join(f"`{one[:16]}`" for one in checkpoint.provenance.parents) or "none recorded"
    facts = {
        "Version": notes.version or UNSAID,
        "Stage": checkpoint.provenance.stage,
        "Weights (sha256)": f"`{checkpoint.sha256}`",
        "Made from (sha256)": parents,
        "Licence": notes.licence or UNSAID,
    }
    text = f"# {notes.name}\n\n{notes.description or METHOD}\n\n" + table(("", ""), facts.items())
    listed = "\n".join(f"* [{title}]({address})" for title, address in notes.references)
    return f"{text}\n\n## References\n\n{listed}" if listed else text


def architecture(checkpoint: Checkpoint) -> dict[str, str]:
    """The parts with their shapes and sizes."""
    text, vision = text_config(checkpoint.config), vision_config(checkpoint.config)
    sizes = parameters(checkpoint)
    read = " and ".join(map(str, feature_layers(checkpoint.config)))
    ours = checkpoint.provenance.stage != "foreign"  # neva never trains the tower; others may have
    frozen = ", frozen" if ours else ""
    return {
        "Architecture type": "Transformer",
        "Network architecture": "GPT + CLIP, joined by a projector",
        "Vision tower": (
            f"CLIP ViT, {vision['num_hidden_layers']} layers of width {vision['hidden_size']}, "
            f"{vision['image_size']} px in patches of {vision['patch_size']}; "
            f"{sizes['vision']:,} parameters{frozen}"
        ),
        "Projector": (
            f"{checkpoint.provenance.projector}, reads what leaves CLIP's layer {read}; "
            f"{sizes['projector']:,} parameters"
        ),
        "Language model": (
            f"{text['model_type']}, {text['num_hidden_layers']} layers of width "
            f"{text['hidden_size']}; {sizes['language']:,} parameters"
        ),
        "Parameters": f"{sum(sizes.values()):,}",
        "Prompt template": checkpoint.provenance.template,
    }


def parameters(checkpoint: Checkpoint) -> dict[str, int]:
    """Parameters by part, from the headers of the weights."""
    sizes = {"vision": 0, "projector": 0, "language": 0}
    for name, entry in tensor_entries(checkpoint.path).items():
        part = (
            "vision"
            if name.startswith(VISION)
            else "projector"
            if name.startswith(PROJECTOR)
            else "language"
        )
        sizes[part] += prod(entry.shape)
    return sizes


def entrance(checkpoint: Checkpoint) -> dict[str, str]:
    """What goes in."""
    size = vision_config(checkpoint.config)["image_size"]
    kept = "padded to a square" if checkpoint.provenance.aspect == "pad" else "cropped to a square"
    return {
        "Input format": "Red, Green, Blue (RGB) image + text, in conversations of several turns",
        "Image files": "PNG, JPEG, WebP, GIF (its first frame)",
        "What the model sees": f"{size} x {size} pixels, {kept}",
        "Input parameters": "temperature, top_p, max_tokens, seed, stop",
        "Image tokens": f"{checkpoint.image_tokens} an image",
        "Context": f"{checkpoint.context} tokens, image tokens included",
    }


def integration() -> dict[str, str]:
    """What it runs on."""
    return {
        "Runtimes": "OpenVINO (`neva serve`, `neva chat`), PyTorch (`--engine torch`)",
        "Interfaces": "NVIDIA's and OpenAI's HTTP APIs, command line",
        "Supported hardware": "x86-64 CPUs by OpenVINO; PyTorch's devices by its engine",
        "Supported operating system": "Linux",
    }


def inference(notes: Notes) -> dict[str, str]:
    """What answers, and where it was measured."""
    return {
        "Engine": "OpenVINO, int8 unless another precision is asked for",
        "Test hardware": notes.hardware or UNSAID,
        "Size and speed": notes.speed or UNSAID,
    }


def data(checkpoint: Checkpoint, notes: Notes) -> str:
    """The data sets of the two stages, and the works behind them, with licences and counts."""
    used = checkpoint.provenance.datasets
    stages = {"Pretraining": notes.pretraining, "Finetuning": notes.finetuning}
    parts = [notes.training] if notes.training else []
    parts += [f"### {stage} data set\n\n{told}" for stage, told in stages.items() if told]
    parts += ["### Data sets on record"] if any(stages.values()) else []
    if terms := checkpoint.provenance.non_commercial:
        parts.append(f"**{terms}**")
    if used:
        header = ("data set", "version", "licence", "samples", "seen", "skipped", "sha256")
        lines = [
            (one.name, one.version, one.licence or UNSAID, f"{one.samples:,}",
             f"{one.seen:,}" if one.seen else "", one.skipped,
             f"`{one.sha256[:16]}`" if one.sha256 else "")
            for one in used
        ]  # fmt: skip
        parts.append(table(header, lines))
    else:
        parts.append("No data set is recorded in this checkpoint's `neva.json`.")
    if notes.sources:
        works = [[source.get(name, "") for name in SOURCE_FIELDS] for source in notes.sources]
        parts.append("### Sources\n\n" + table(SOURCE_FIELDS, works))
    return "\n\n".join(parts)


def recipe(checkpoint: Checkpoint) -> str:
    """The resolved recipe of the last stage."""
    found = checkpoint.provenance.recipe
    if not found:
        return "No recipe is recorded in this checkpoint's `neva.json`."
    return table(("setting", "value"), sorted(found.items()))


def evaluation(
    results: Sequence[Mapping[str, Any]], notes: Notes, pictures: Sequence[tuple[str, str]]
) -> str:
    """Every result with its baselines beside it and the way to repeat it; pictures first."""
    parts = [notes.evaluation] if notes.evaluation else []
    if not results:
        parts.append("Not evaluated: give the JSON files of `neva eval` by `--result`.")
    parts += [f"![{title}]({file})" for title, file in pictures]
    return "\n\n".join([*parts, *(one_result(result) for result in results)])


def one_result(result: Mapping[str, Any]) -> str:
    """One task's figures."""
    asked, beside = result["asked"], result.get("beside", {})
    guess = {"no model": result["floor"]} if result["floor"] else {}
    columns = {**beside, **guess}
    sources = [result["metrics"], *columns.values()]
    lines = [
        (counted(name, result["metrics"]),
         *(f"{one[name]:.2f}" if name in one else "" for one in sources))
        for name in result["metrics"]
        if not name.startswith("n.")
    ]  # fmt: skip
    low, high = result["interval_95"]
    how = (
        f"{result['questions']} of {result['of']} questions, greedy, suffix "
        f"`{asked['suffix']!r}`, {asked['engine']} {asked['precision']}; 95% interval of the mean "
        f"credit {low:.1f} to {high:.1f}.{remarks(result)}"
    )
    header = ("figure", column_of(result), *columns)
    return f"### {result['task']}\n\n{how}\n\n{table(header, lines)}"


def remarks(result: Mapping[str, Any]) -> str:
    """What else a reader must know before believing a figure; "" for most."""
    asked, told = result["asked"], BLIND.get(baseline_of(result), "")
    if asked.get("system") is not None:
        told += f" System text: `{asked['system']!r}`."
    if result.get("errors"):
        told += f" {result['errors']} questions could not be asked, and earned nothing."
    if "url" in asked and not asked.get("weights"):
        told += " Measured at a server that does not tell whether it serves these weights."
    elif not asked.get("weights") and not asked.get("sha256"):
        told += " The result does not tell of which weights it is."
    return told


def counted(name: str, metrics: Mapping[str, float]) -> str:
    """A figure's name with the number of questions behind it, where that is known."""
    count = metrics.get(f"n.{name.partition('.')[2]}")
    return name if count is None else f"{name} ({count:.0f})"


def subcard(
    title: str, notes: Notes, checkpoint: Checkpoint, results: Sequence[Mapping[str, Any]]
) -> str:
    """One subcard: what the checkpoint and its results tell, where its maker does not know better,
    then the maker's other answers."""
    given = notes.fields.get(title, {})
    fields = {**told(title, checkpoint, results), **dict.fromkeys(SUBCARDS[title], UNSAID), **given}
    lines = list(fields.items())
    return f"## {title}\n\n" + table(("field", "response"), lines)


def told(
    title: str, checkpoint: Checkpoint, results: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """The fields of a subcard that need no maker."""
    used = checkpoint.provenance.datasets
    if title == "Explainability":
        metrics = ", ".join(f"{one['task']} {next(iter(one['metrics']))}" for one in results)
        return {
            "Model type": "Transformer",
            "Describe how the model works": METHOD,
            "Output": "Text; it answers in view of the conversation so far",
            "Performance metrics": metrics or "None yet",
        }
    if title == "Privacy":
        traced = "Yes, by sha256" if used and all(one.sha256 for one in used) else "No"
        return {
            "Is data in the data sets traceable": traced,
            "Is there provenance for all data sets used in training":
                "Yes, see training data" if used else "No",
        }  # fmt: skip
    bound = [one.name for one in used if one.non_commercial]
    if title == "Safety & Security" and bound:
        return {"Non-commercial training data": ", ".join(bound)}
    return {}
