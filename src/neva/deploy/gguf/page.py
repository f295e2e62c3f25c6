"""README.md beside the GGUF files: how they are served, and what llama.cpp does otherwise."""

import shlex

from PIL import Image

from neva.deploy.gguf.vision import ClassToken
from neva.engine.protocol import Sampling
from neva.images.recipe import CLIP_MEAN
from neva.model.checkpoint import Checkpoint
from neva.model.reading import TOKENIZER, read_json
from neva.model.shapes import vision_config
from neva.model.window import sliding_window
from neva.prompts import stop_ids

CLASS_TOKEN = {
    "last": (
        "The mmproj is for builds of llama.cpp that put CLIP's class token after the patches: all "
        "from May 2025 on that were looked at, up to 11549 of October 2026 (llama.cpp's issue "
        "25814). The upper left patch is left out there. A build in which that is mended answers "
        "worse with this file: it needs one written with `--class-token first`."
    ),
    "first": (
        "The mmproj is for builds of llama.cpp that put CLIP's class token before the patches "
        "(llama.cpp's issue 25814 mended). Other builds give worse answers with this file."
    ),
}


TURNS = (
    "Messages are written as they are sent. `neva serve` joins messages of the same role in a row "
    "to one, puts an empty user's message before an assistant's that comes first, and takes all "
    "system messages, wherever they are, as one; here one that is not the first is written as the "
    "assistant's. Send one system message first or none, then the user's and the assistant's in "
    "turn, the user's first."
)


def context(source: Checkpoint) -> int:
    """The most tokens: no more than a sliding window, which llama.cpp would compute without."""
    return min(source.context, sliding_window(source.config) or source.context)


def page(source: Checkpoint, files: tuple[str, str], class_token: ClassToken) -> str:
    """The page's text."""
    words, eyes = (shlex.quote(name) for name in files)
    usual = Sampling()
    chosen = f"--temp {usual.temperature} --top-p {usual.top_p} --top-k 0 --min-p 0"
    length = min(context(source), 8192)
    lines = [
        f"# {source.path.resolve().name} for llama.cpp",
        "",
        f"Written by `neva export` from the checkpoint with sha256 `{source.sha256}`.",
        "",
        "```bash",
        f"llama-server -m {words} --mmproj {eyes} --jinja -c {length} {chosen}",
        f"llama-mtmd-cli -m {words} --mmproj {eyes} --jinja {chosen} --image picture.png "
        '-p "What is this?"',
        "```",
        "",
        "The sampling is neva's default; for the likeliest text give `--temp 0`. Send pictures to "
        "the server as `image_url` parts of OpenAI's chat completions.",
        "",
        "What differs from `neva serve`:",
        "",
        *(f"- {line}" for line in _differences(source, class_token)),
    ]
    return "\n".join(lines) + "\n"


def _differences(source: Checkpoint, class_token: ClassToken) -> list[str]:
    pixels, template = source.pixels, source.template
    side = pixels.size
    found = [
        CLASS_TOKEN[class_token],
        f"Pictures are resized by {_filter(pixels.resample)}, which does not smooth: what is not "
        f"{side} x {side} pixels is seen somewhat differently, large pictures most. Pictures sent "
        f"in {side} x {side} pixels are seen alike.",
        "A user who types the name of a special token sends that token, which `neva serve` reads "
        "as letters.",
        TURNS,
    ]
    if pixels.aspect != "pad":
        way = "cropped" if pixels.aspect == "square" else "stretched"
        found.append(
            f"Pictures that are no squares are padded with grey; this model was trained on "
            f"{way} ones. Send squares."
        )
    elif tuple(round(value, 4) for value in pixels.mean) != tuple(round(v, 4) for v in CLIP_MEAN):
        found.append("The padding has the mean colour of OpenAI's CLIP, not this tower's.")
    acts = [str(vision_config(source.config).get("hidden_act", "quick_gelu"))]
    acts.append(str(source.config.get("projector_hidden_act", "gelu")))
    if "gelu" in acts:
        found.append("GELU is approximated by tanh, an error of 0.0005 at most.")
    normal = read_json(source.path / TOKENIZER).get("normalizer") or {}
    if normal.get("type") == "NFC":
        found.append("Texts that are not in Unicode's composed form (NFC) have other tokens.")
    if (length := context(source)) < source.context:
        found.append(
            f"The context ends with the sliding window, {length} tokens: llama.cpp has none for "
            "this family."
        )
    written = [stop for stop in template.stop if not stop_ids(template, source.tokenizer)]
    if written:
        found.append(
            f"Answers end with the text {written[0]!r}, which is no token: send it as `stop` with "
            "each request."
        )
    return found


def _filter(resample: int) -> str:
    """llama.cpp's filter in words, for a model whose pictures were resized by `resample`."""
    if resample == Image.Resampling.BICUBIC:
        return "another bicubic filter"
    name = Image.Resampling(resample).name.lower()
    return f"a bicubic filter, where this model's own is {name} (Pillow's filter {resample})"
