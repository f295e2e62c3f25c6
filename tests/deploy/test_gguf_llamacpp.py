"""What llama.cpp's own server makes of our GGUF files: the same ids, the same text.

Minutes: `pytest -m servers tests/deploy/test_gguf_llamacpp.py`. The server is the one in the
package xllamacpp, in an environment of its own. Where the two may differ, and how much, is said in
docs/deploy.md; a version of llama.cpp that changes one of these facts fails here.
"""

import io
import random
import re
from pathlib import Path
from typing import Any

import gguf_models as models
import numpy as np
import pytest
from llamacpp_server import Server, serving
from PIL import Image, ImageDraw

from neva.engine import open_engine
from neva.engine.protocol import Request, Sampling
from neva.images import RGBImage, read_image
from neva.model import Checkpoint
from neva.nano import default_checkpoint
from neva.prompts import ask, encode

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

SIDE = 128  # the default model's pictures
COLOURS = ("red", "blue", "green", "yellow", "black", "orange", "purple", "brown")


def drawing(rng: random.Random, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Two or three shapes on white."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for shape in rng.sample((pen.ellipse, pen.rectangle, pen.ellipse), rng.randint(1, 2)):
        wide = rng.randint(size[0] // 4, size[0] // 2)
        x, y = rng.randint(0, size[0] - wide), rng.randint(0, size[1] - wide)
        shape((x, y, x + wide, y + wide), fill=rng.choice(COLOURS))
    return image


Case = tuple[Image.Image, str]
Apart = tuple[Case, str]
QUESTIONS = (
    "What is this?",
    "What colour is it?",
    "How many shapes are there?",
    "Is there a circle?",
    "What is in the picture?",
    "Is anything red?",
)


def asked(size: tuple[int, int] = (SIDE, SIDE)) -> list[Case]:
    """48 questions about 16 drawings."""
    rng = random.Random(3)
    pictures = [drawing(rng, size) for _ in range(16)]
    return [(picture, q) for picture in pictures for q in rng.sample(QUESTIONS, 3)]


def rgb(image: Image.Image) -> RGBImage:
    data = io.BytesIO()
    image.save(data, "PNG")
    return read_image(data.getvalue())


def our_texts(path: Path, cases: list[Case]) -> list[str]:
    greedy = Sampling(temperature=0, max_tokens=24)
    engine = open_engine(path, precision="fp32")
    try:
        requests = [Request(ask(q), (rgb(image),), greedy) for image, q in cases]
        return ["".join(chunk.text for chunk in s) for s in engine.generate(requests)]
    finally:
        engine.close()


def compared(cases: list[Case], ours: list[str], server: Server) -> tuple[float, list[Apart]]:
    """The share of answers that are ours to the letter, and the others with llama.cpp's text."""
    theirs = [server.answer(image, question)[0] for image, question in cases]
    triples = zip(cases, ours, theirs, strict=True)
    apart = [(case, theirs) for case, ours, theirs in triples if ours != theirs]
    print(f"{len(cases) - len(apart)} of {len(cases)} are the same")
    return 1 - len(apart) / len(cases), apart


def explained(path: Path, apart: list[Apart]) -> int:
    """How many of llama.cpp's texts are our own model's, shown image tokens in its order.

    That is without the first patch, the projected class token behind the others.
    """
    import torch

    from neva.model.load import load_model

    source = Checkpoint.open(path)
    model = load_model(source, "cpu", torch.float32)
    words, tokens, found = model.get_input_embeddings(), source.image_tokens, 0
    for (image, question), theirs in apart:
        told = encode(
            ask(question), source.template, source.tokenizer, source.image_token_id, tokens, True
        )
        pixels = torch.tensor(source.pixels.pixels(rgb(image)))[None]
        with torch.no_grad():
            whole = projected(model, source, pixels, "full")
            row = words(torch.tensor([told.ids])).clone()
            start = told.images[0]
            row[0, start : start + tokens] = torch.cat((whole[2:], whole[:1]))
            chosen: list[int] = []
            for _ in range(24):
                logits = model(inputs_embeds=row).logits[0, -1]
                logits[source.image_token_id] = -torch.inf
                chosen.append(int(logits.argmax()))
                if chosen[-1] in source.stop_ids:
                    break
                row = torch.cat((row, words(torch.tensor([chosen[-1:]]))), dim=1)
        text = source.tokenizer.decode([t for t in chosen if t not in source.stop_ids])
        found += text == theirs
    print(f"{found} of {len(apart)} that differ are our text in llama.cpp's order")
    return found


def projected(model: Any, source: Checkpoint, pixels: Any, strategy: str) -> Any:
    """Image tokens (P, D), or with "full" (1 + P, D), by transformers."""
    import torch

    features = model.get_image_features(
        pixel_values=pixels,
        vision_feature_layer=source.config["vision_feature_layer"],
        vision_feature_select_strategy=strategy,
    )
    rows = torch.as_tensor(getattr(features, "pooler_output", features)[0])
    return rows.reshape(-1, rows.shape[-1])


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return our_texts(default_checkpoint(), asked())


@pytest.mark.parametrize(("kind", "share"), [("f32", 0.95), ("f16", 0.95), ("q8_0", 0.85)])
def test_the_default_models_text(tmp_path: Path, texts: list[str], kind: str, share: float) -> None:
    """f32 and f16 differ by the corner that llama.cpp leaves out, q8_0 by its rounding too."""
    with serving(default_checkpoint(), tmp_path / "out", kind) as server:
        alike, apart = compared(asked(), texts, server)
    assert alike >= share
    if kind != "q8_0":
        assert explained(default_checkpoint(), apart) == len(apart)


def test_this_llama_cpp_has_the_class_token_last(tmp_path: Path, texts: list[str]) -> None:
    """Positions as they are give other answers; where this fails, the default must change."""
    path = default_checkpoint()
    with serving(path, tmp_path / "out", class_token="first") as server:
        assert compared(asked(), texts, server)[0] <= 0.9


def test_pictures_of_other_sizes_are_resized_otherwise(tmp_path: Path) -> None:
    """Told in the README beside the files. Given the tower's own squares, nothing else differs."""
    cases = asked((300, 200))
    ours = our_texts(default_checkpoint(), cases)
    pixels = Checkpoint.open(default_checkpoint()).pixels
    squares = [(Image.fromarray(pixels.square(rgb(i))), q) for i, q in cases]
    with serving(default_checkpoint(), tmp_path / "out") as server:
        assert compared(cases, ours, server)[0] >= 0.75
        alike, apart = compared(squares, ours, server)
    assert alike >= 0.85 and explained(default_checkpoint(), apart) == len(apart)


def test_the_default_models_prompts(tmp_path: Path) -> None:
    """The ids of a conversation are ours: before and behind the picture, and how many it has."""
    source = Checkpoint.open(default_checkpoint())
    letters = Checkpoint.open(default_checkpoint()).tokenizer
    letters.encode_special_tokens = True
    with serving(source.path, tmp_path / "out") as server:
        for text in models.TEXTS:
            assert server.ids(text) == letters.encode(text).ids
        for image, question in asked()[:12]:
            prompt = server.post("/apply-template", messages=server.messages(image, question))
            before, behind = re.split(r"<__media\w*__>", prompt["prompt"])
            told = encode(
                ask(question), source.template, source.tokenizer, source.image_token_id, 64, True
            )
            start = told.images[0]
            assert server.ids(before) == list(told.ids[:start])
            assert server.ids(behind) == list(told.ids[start + 64 :])
            assert server.answer(image, question, tokens=1)[1] == len(told)


@pytest.mark.parametrize("kind", models.KINDS)
def test_ids_of_texts(tmp_path: Path, kind: str) -> None:
    path = models.tiny_with(tmp_path / "tiny", models.tokenizer(kind))
    tokenizer = Checkpoint.open(path).tokenizer
    if not kind.startswith("sentencepiece"):
        tokenizer.encode_special_tokens = True  # letters, as a user's text is
    with serving(path, tmp_path / "out") as server:
        for text in models.TEXTS:
            if kind == "qwen2" and text == "e\u0301":
                continue  # llama.cpp does not normalise
            if kind.startswith("sentencepiece"):  # behind a marker, as in every prompt
                text = text.replace("<image>", "<imago>")
                ours = tokenizer.encode("<s>" + text, add_special_tokens=False).ids
                found = server.ids("<s>" + text)
            else:
                ours = tokenizer.encode(text, add_special_tokens=False).ids
                found = server.ids(text)
            assert found == ours, (text, Checkpoint.open(path).tokenizer.decode(found))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "nemotron", "gpt_neox", "gpt2"])
def test_every_family_speaks_as_in_torch(tmp_path: Path, family: str) -> None:
    """Greedy ids after texts of ids, by the language model alone."""
    import torch

    from neva.model.load import load_model

    path = models.composed(tmp_path, family)
    _same_ids(path, tmp_path / "out", torch, load_model)


@pytest.mark.parametrize("scaling", ["linear", "llama3"])
def test_rotary_scaling(tmp_path: Path, scaling: str) -> None:
    import torch
    from tiny_llava import SCALED

    from neva.model.load import load_model

    said = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    rope = SCALED if scaling == "llama3" else said
    path = models.tiny(tmp_path / "tiny", rope_parameters=rope)
    _same_ids(path, tmp_path / "out", torch, load_model)


def _same_ids(path: Path, out: Path, torch: Any, load_model: Any, length: int = 24) -> None:
    """Each id that llama.cpp chooses is ours, or as likely to a hundredth: then they part."""
    source = Checkpoint.open(path)
    model = load_model(source, "cpu", torch.float32)
    rng, alike = np.random.default_rng(1), 0
    with serving(path, out) as server:
        for _ in range(4):
            ids = [int(token) for token in rng.integers(3, 250, 100)]
            said = server.post(
                "/completion", prompt=ids, temperature=0, n_predict=length, return_tokens=True
            )
            for chosen in said["tokens"]:
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
                logits[source.image_token_id :] = -torch.inf
                ids.append(int(logits.argmax()))
                assert logits[ids[-1]] - logits[chosen] < 0.01
                if chosen != ids[-1]:
                    break
                alike += 1
    assert alike > 48


@pytest.mark.parametrize(
    "made", ["default", "quick_gelu", "linear", "layers", "last layer", "no bias"]
)
def test_the_towers_features(tmp_path: Path, made: str) -> None:
    """The first image token that llama.cpp makes is the second patch (see vision.py), to 1 %."""
    import torch

    from neva.model.load import load_model

    path = default_checkpoint()
    if made == "linear":
        path = models.composed(tmp_path, "llama", projector="linear")
    elif made != "default":
        llava = {
            "layers": {"vision_feature_layer": [-1, 0, -2, 0]},
            "last layer": {"vision_feature_layer": -1},
            "no bias": {"multimodal_projector_bias": False},
        }.get(made)
        path = models.tiny(tmp_path / "tiny", llava=llava)
    source = Checkpoint.open(path)
    image = drawing(random.Random(5), (source.pixels.size,) * 2)
    pixels = torch.tensor(source.pixels.pixels(rgb(image)))[None]
    model = load_model(source, "cpu", torch.float32)
    with torch.no_grad():
        second = projected(model, source, pixels, "default")[1].numpy()
    with serving(path, tmp_path / "out", verbosity=9) as server:
        server.answer(image, "What?", tokens=1)
        line = next(  # the last picture: a first one may be a warm-up
            line
            for line in reversed(server.log.read_text(errors="replace").splitlines())
            if line.startswith("Token 0 (first 16") or " Token 0 (first 16" in line
        )
    found = [float(n) for n in re.findall(r"-?\d+\.\d{6}(?= )", line.split(":", 1)[1])]
    assert len(found) == 16
    assert np.abs(np.array(found) - second[:16]).max() < 0.01 * np.abs(second).max()
