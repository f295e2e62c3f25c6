"""A checkpoint's model card, in the manner of NVIDIA's: what can be read is read, not claimed.

Architecture, data and recipe come from the checkpoint, figures from the JSON files of `neva eval`.
What only its maker can say (licence, bias, privacy, safety) comes from a notes file; a field that
nobody filled in says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from neva.model.checkpoint import Checkpoint
from neva.model.keys import PROJECTOR, VISION
from neva.model.shapes import text_config, vision_config
from neva.model.weights import tensor_entries

UNSAID = "Not stated by the maker"
# The subcards' fields of NVIDIA's card (Model Card++), to be answered in the notes.
SUBCARDS: Mapping[str, tuple[str, ...]] = {
    "Explainability": (
        "Intended application & domain",
        "Intended users",
        "Technical limitations",
        "Potential known risks",
        "Licensing",
    ),
    "Bias": (
        "Participation considerations from adversely impacted groups in design and testing",
        "Measures taken to mitigate against unwanted bias",
    ),
    "Privacy": (
        "Generatable or reverse engineerable personally-identifiable information",
        "Protected class data used to create this model",
        "Was consent obtained for any personal data used",
        "How often are the data sets reviewed",
    ),
    "Safety & Security": (
        "Describe the physical safety impact (if present)",
        "Use case restrictions",
        "Model and dataset restrictions",
    ),
}
METHOD = (
    "An image becomes patch features by a frozen CLIP; a projector turns them into embeddings, "
    "which stand among those of the text before a transformer language model, whose tokens are "
    "the answer."
)
PROTOTYPE = """```python
import base64, requests

picture = base64.b64encode(open("picture.png", "rb").read()).decode()
answer = requests.post(
    "http://127.0.0.1:8000/v1/vlm/nvidia/neva-22b",
    json={"messages": [{"role": "user", "content":
        f'What is this? <img src="data:image/png;base64,{picture}" />'}],
        "temperature": 0.2, "top_p": 0.7, "max_tokens": 1024, "seed": 0},
)
print(answer.json()["choices"][0]["message"]["content"])
```
"""


@dataclass(frozen=True)
class Notes:
    """What only the maker can say; `fields` answers a subcard's fields, by subcard."""

    name: str
    description: str = ""
    licence: str = ""
    fields: Mapping[str, Mapping[str, str]] | None = None


def card(checkpoint: Checkpoint, results: Sequence[Mapping[str, Any]], notes: Notes) -> str:
    """The card as Markdown."""
    sections = (
        overview(checkpoint, notes),
        "## Model architecture\n\n" + table(("", ""), architecture(checkpoint).items()),
        "## Input and output\n\n" + table(("", ""), doors(checkpoint).items()),
        "## Training data\n\n" + data(checkpoint),
        "## Recipe\n\n" + recipe(checkpoint),
        "## Evaluation\n\n" + evaluation(results),
        *(subcard(title, notes, checkpoint) for title in SUBCARDS),
        "## Prototype\n\n`neva serve --model DIR`, then:\n\n" + PROTOTYPE,
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
        "Stage": checkpoint.provenance.stage,
        "Weights (sha256)": f"`{checkpoint.sha256}`",
        "Made from (sha256)": parents,
        "Licence": notes.licence or UNSAID,
    }
    return f"# {notes.name}\n\n{notes.description or METHOD}\n\n" + table(("", ""), facts.items())


def architecture(checkpoint: Checkpoint) -> dict[str, str]:
    """The parts with their shapes and sizes."""
    text, vision = text_config(checkpoint.config), vision_config(checkpoint.config)
    sizes = parameters(checkpoint)
    ours = checkpoint.provenance.stage != "foreign"  # neva never trains the tower; others may have
    frozen = ", frozen" if ours else ""
    return {
        "Type": "Transformer (CLIP, projector, GPT)",
        "Vision tower": (
            f"CLIP ViT, {vision['num_hidden_layers']} layers of width {vision['hidden_size']}, "
            f"{vision['image_size']} px in patches of {vision['patch_size']}; "
            f"{sizes['vision']:,} parameters{frozen}"
        ),
        "Projector": f"{checkpoint.provenance.projector}; {sizes['projector']:,} parameters",
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


def doors(checkpoint: Checkpoint) -> dict[str, str]:
    """What goes in and what comes out."""
    return {
        "Input": "RGB images (PNG, JPEG, WebP, first frame of GIF) and text, in conversations",
        "Input parameters": "temperature, top_p, max_tokens, seed, stop",
        "Image tokens": f"{checkpoint.image_tokens} an image",
        "Context": f"{checkpoint.context} tokens, image tokens included",
        "Output": "Text",
    }


def data(checkpoint: Checkpoint) -> str:
    """The data sets with their licences and counts."""
    used = checkpoint.provenance.datasets
    if not used:
        return "No data set is recorded in this checkpoint's `neva.json`."
    header = ("data set", "version", "licence", "samples", "skipped", "sha256")
    lines = [
        (one.name, one.version, one.licence or UNSAID, f"{one.samples:,}", one.skipped,
         f"`{one.sha256[:16]}`" if one.sha256 else "")
        for one in used
    ]  # fmt: skip
    return table(header, lines)


def recipe(checkpoint: Checkpoint) -> str:
    """The resolved recipe of the last stage."""
    found = checkpoint.provenance.recipe
    if not found:
        return "No recipe is recorded in this checkpoint's `neva.json`."
    return table(("setting", "value"), sorted(found.items()))


def evaluation(results: Sequence[Mapping[str, Any]]) -> str:
    """Every result with its baselines beside it and the way to repeat it."""
    if not results:
        return "Not evaluated: give the JSON files of `neva eval` by `--result`."
    return "\n\n".join(one_result(result) for result in results)


def one_result(result: Mapping[str, Any]) -> str:
    """One task's figures."""
    asked, beside = result["asked"], result.get("beside", {})
    sources = [result["metrics"], *beside.values(), result["floor"]]
    lines = [
        (name, *(f"{one[name]:.2f}" if name in one else "" for one in sources))
        for name in result["metrics"]
        if not name.startswith("n.")
    ]
    low, high = result["interval_95"]
    how = (
        f"{result['questions']} of {result['of']} questions, greedy, suffix "
        f"`{asked['suffix']!r}`, {asked['engine']} {asked['precision']}; 95% interval of the mean "
        f"credit {low:.1f} to {high:.1f}."
    )
    header = ("figure", "score", *beside, "no model")
    return f"### {result['task']}\n\n{how}\n\n{table(header, lines)}"


def subcard(title: str, notes: Notes, checkpoint: Checkpoint) -> str:
    """One subcard: the maker's answers, and what the checkpoint itself tells."""
    given = (notes.fields or {}).get(title, {})
    lines = [(field, given.get(field, UNSAID)) for field in SUBCARDS[title]]
    lines += [(field, answer) for field, answer in given.items() if field not in SUBCARDS[title]]
    if title == "Explainability":
        lines.insert(0, ("Describe how the model works", METHOD))
    if title == "Privacy":
        traced = "Yes, see training data" if checkpoint.provenance.datasets else "No"
        lines.append(("Is there provenance for all data sets used in training", traced))
    if title == "Safety & Security":
        bound = [one.name for one in checkpoint.provenance.datasets if restricted(one.licence)]
        if bound:
            lines.append(("Non-commercial training data", ", ".join(bound)))
    return f"## {title}\n\n" + table(("field", "response"), lines)


def restricted(licence: str) -> bool:
    """Whether a licence's name says that it forbids commercial use."""
    words = licence.lower().replace("-", " ").replace("_", " ").split()
    return "nc" in words or "noncommercial" in words or "non commercial" in " ".join(words)
