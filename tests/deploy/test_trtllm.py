"""The export for TensorRT-LLM: what is written, and that its plugin computes as transformers does.

TensorRT-LLM itself cannot be had here: `trtllm_double` stands in its place.
"""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trtllm_double
from PIL import Image
from safetensors.torch import load_file
from small import write_clip, write_language
from tiny_llava import write_checkpoint
from tokenizers import AddedToken, processors
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration

from neva.deploy.trtllm.export import FAMILIES, PLUGIN, settings, write_trtllm
from neva.errors import CheckpointError
from neva.model import Checkpoint
from neva.model.compose import compose
from neva.model.keys import disk_name
from neva.prompts import Conversation, ImageSlot, encode
from neva.prompts.conversation import Turn
from neva.prompts.render import render, text_of

SOURCES = Path(__file__).parents[2] / "src" / "neva" / "deploy" / "trtllm" / "plugin"
LAYERS = {"llama": (-3, -2), "mistral": (-2,), "nemotron": (-1,), "qwen2": (1, -1)}
CPU = torch.device("cpu")


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((24, 40, 3), (30, 17, 3))
    return [Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)) for size in sizes]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One export per family, in float32, with other layers and aspects each."""
    folder = tmp_path_factory.mktemp("trtllm")
    clip = write_clip(folder / "clip")
    for index, family in enumerate(FAMILIES):
        language = write_language(folder / f"lm-{family}", family)
        source = compose(
            clip,
            language,
            "mlp2x_gelu",
            folder / f"source-{family}",
            feature_layer=LAYERS[family],
            aspect="pad" if index % 2 else "square",
            dtype="float32",
        )
        write_trtllm(source, folder / family)
    return {family: folder / family for family in FAMILIES}


@pytest.fixture(params=["1.2", "later"])
def plugin(
    request: pytest.FixtureRequest, exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """The package as trtllm-serve imports it: by its folder's name, from the folder above."""
    seen = trtllm_double.install(monkeypatch, later=request.param == "later")
    monkeypatch.syspath_prepend(exported["llama"])
    package = importlib.import_module(PLUGIN)
    names = ("features", "prompt", "registration")
    parts = {name: importlib.import_module(f"{PLUGIN}.{name}") for name in names}
    monkeypatch.setattr(parts["registration"], "own_gpu", lambda: CPU)
    yield SimpleNamespace(seen=seen, package=package, **parts)
    for name in [name for name in sys.modules if name.split(".")[0] == PLUGIN]:
        del sys.modules[name]


def test_what_is_written(exported: dict[str, Path]) -> None:
    for out in exported.values():
        names = {str(p.relative_to(out)) for p in out.rglob("*") if "model" not in p.parts}
        python = {f"{PLUGIN}/{path.name}" for path in SOURCES.glob("*.py")}
        files = {"README.md", "config.yaml", "serve.sh", PLUGIN, f"{PLUGIN}/settings.json"}
        assert names - {"model"} == files | python
        assert len(python) == 4
        model = Checkpoint.open(out / "model")
        assert model.config["architectures"] == ["LlavaForConditionalGeneration"]
        assert json.loads((out / PLUGIN / "settings.json").read_text()) == {
            "image_token": "<image>"
        }
    settings = (exported["llama"] / "config.yaml").read_text()
    assert "\nmax_seq_len: 256\n" in settings and "\n  enable_block_reuse: false" in settings


def test_the_script_starts_the_server_with_this_folder(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    said = tmp_path / "trtllm-serve"
    said.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    said.chmod(0o755)
    out = exported["qwen2"]
    done = subprocess.run(
        ["sh", out / "serve.sh", "--tp_size", "2"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = done.stdout.split()
    assert words[0] == str(out / "model") and words[-2:] == ["--tp_size", "2"]
    options = dict(zip(words[1:-2:2], words[2:-2:2], strict=True))
    assert options["--custom_module_dirs"] == str(out / PLUGIN)
    assert options["--extra_llm_api_options"] == str(out / "config.yaml")
    told = (out / "README.md").read_text()
    assert all(f"{name} " in told for name in options) and "**Not tried.**" in told


def test_the_plugin_needs_nothing_of_neva() -> None:
    """Torch, transformers and what they bring; TensorRT-LLM in one file only."""
    for path in SOURCES.glob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
        allowed = {"torch", "transformers", "safetensors", "numpy", "PIL"}
        if path.name == "registration.py":
            allowed.add("tensorrt_llm")
        assert found - set(sys.stdlib_module_names) <= allowed, path.name


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers(
    family: str, plugin: SimpleNamespace, exported: dict[str, Path]
) -> None:
    folder = exported[family] / "model"
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    tensors = load_file(folder / "model.safetensors")
    encoder = plugin.features.load_encoder(model.config, tensors, torch.float32, CPU)
    pixels = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        found = encoder(pixels)
        expected = torch.stack(list(model.model.get_image_features(pixels).pooler_output))
    assert torch.equal(found, expected) and found.shape == (3, 4, 32)


@pytest.mark.parametrize("change", ["full", "unbiased", "embeddings"])
def test_features_of_other_checkpoints(
    change: str, plugin: SimpleNamespace, exported: dict[str, Path]
) -> None:
    config = LlavaConfig.from_pretrained(exported["mistral"] / "model")
    if change == "full":
        config.vision_feature_select_strategy = "full"
    if change == "embeddings":
        config.vision_feature_layer = [0, -1]
    config.multimodal_projector_bias = change != "unbiased"
    model = LlavaForConditionalGeneration(config).eval()
    tensors = {disk_name(name): tensor for name, tensor in model.state_dict().items()}
    encoder = plugin.features.load_encoder(config, tensors, torch.float32, CPU)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found = encoder(pixels)
        expected = torch.stack(list(model.model.get_image_features(pixels).pooler_output))
    assert torch.equal(found, expected) and found.shape[1] == 4 + (change == "full")


def test_layers_that_nobody_reads_are_not_there(
    plugin: SimpleNamespace, exported: dict[str, Path]
) -> None:
    config = LlavaConfig.from_pretrained(exported["mistral"] / "model")
    names = set(plugin.features.ImageEncoder(config).state_dict())
    kept = {re.search(r"layers\.(\d+)", name)[1] for name in names if "layers." in name}
    assert kept == {"0", "1"} and config.vision_config.num_hidden_layers == 3


def test_a_lost_tensor_is_named(plugin: SimpleNamespace, exported: dict[str, Path]) -> None:
    config = LlavaConfig.from_pretrained(exported["qwen2"] / "model")
    tensors = load_file(exported["qwen2"] / "model" / "model.safetensors")
    del tensors["multi_modal_projector.linear_2.bias"]
    with pytest.raises(ValueError, match=r"has no multi_modal_projector\.linear_2\.bias; export"):
        plugin.features.load_encoder(config, tensors, torch.float32, CPU)


def rendered(folder: Path, content: Any) -> str:
    chat = AutoProcessor.from_pretrained(folder).tokenizer
    turn = {"role": "user", "content": content}
    text: str = chat.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    return text


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_pixels_are_those_of_transformers_and_ours(
    family: str, plugin: SimpleNamespace, exported: dict[str, Path]
) -> None:
    folder, images = exported[family] / "model", pictures()
    checkpoint = Checkpoint.open(folder)
    reader = plugin.prompt.PromptReader.open(folder)
    parts = [{"type": "image"}, {"type": "text", "text": "Which of <s>"}, {"type": "image"}]
    text = rendered(folder, parts)
    image = checkpoint.image_token_id

    def back(ids: list[int]) -> list[int]:
        return [image if i == reader.placeholder else i for i in ids]

    found = reader.ids(text, 2, special=False)
    assert found.count(reader.placeholder) == 2 * reader.image_tokens == 8
    assert reader.placeholder == checkpoint.config["text_config"]["vocab_size"] + 1
    theirs = AutoProcessor.from_pretrained(folder)(images=images, text=text, return_tensors="pt")
    assert back(found) == theirs["input_ids"][0].tolist()
    assert torch.equal(reader.pixels(images), theirs["pixel_values"])
    plain = [*parts[:1], {"type": "text", "text": "Which one?"}]
    told = Conversation((Turn("user", (ImageSlot(0), "Which one?")),))
    ours = encode(told, checkpoint.template, checkpoint.tokenizer, image, 4, answer=True)
    assert back(reader.ids(rendered(folder, plain), 1, special=False)) == list(ours.ids)
    # TensorRT-LLM 1.2 writes the placeholders itself, in front of a message that is a string.
    assert rendered(folder, "<image>Which one?") == rendered(folder, plain)


def test_pictures_come_in_every_form(plugin: SimpleNamespace, exported: dict[str, Path]) -> None:
    reader = plugin.prompt.PromptReader.open(exported["mistral"] / "model")
    (image, _), whole = pictures(), np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = reader.pixels([image])
    for form in (array, tensor, tensor.float() / 255, image.convert("RGBA")):
        assert torch.equal(reader.pixels([form]), expected)
    every = torch.from_numpy(whole.copy()).permute(2, 0, 1).float().div(255)
    np.testing.assert_array_equal(np.asarray(plugin.prompt.as_picture(every)), whole)
    with pytest.raises(ValueError, match="came as str"):
        reader.pixels(["picture.png"])


def test_the_beginning_is_written_once(plugin: SimpleNamespace, exported: dict[str, Path]) -> None:
    """Of texts that the chat template has begun, and of those that nobody has."""
    reader = plugin.prompt.PromptReader.open(exported["llama"] / "model")
    begin = reader.tokenizer.convert_tokens_to_ids("<s>")
    reader.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    reader.tokenizer.bos_token = AddedToken("<s>", special=True)
    for text in ("<s>a", "a"):
        assert reader.ids(text, 0, special=True) == [begin, *reader.ids("a", 0, special=False)]
    assert begin not in reader.ids("a", 0, special=False)


def requests(plugin: SimpleNamespace, folder: Path) -> tuple[Any, list[Any], list[str]]:
    """Two with pictures and one without, as the input processor hands them on."""
    config = LlavaConfig.from_pretrained(folder)
    wrapped = SimpleNamespace(tokenizer=AutoProcessor.from_pretrained(folder).tokenizer)
    reads = plugin.package.LlavaInputProcessor(str(folder), config, wrapped)
    first, second = pictures()
    texts = ["a <image>b<image>", "no picture", "<image>Which?"]
    tensor = torch.from_numpy(np.asarray(second).copy()).permute(2, 0, 1) / 255
    images: list[Any] = [[first, second], None, tensor]
    sampling = SimpleNamespace(add_special_tokens=False)
    asked = [
        reads(
            {"prompt": text, "multi_modal_data": {"image": one} if "<" in text else None}, sampling
        )
        for text, one in zip(texts, images, strict=True)
    ]
    return reads, asked, texts


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(
    family: str,
    plugin: SimpleNamespace,
    exported: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugin.registration, "served_dtype", lambda config: torch.float32)
    folder = exported[family] / "model"
    registered = plugin.seen.models["LlavaForConditionalGeneration"]
    assert registered is plugin.package.LlavaForTensorRT
    config = LlavaConfig.from_pretrained(folder)
    model = registered(SimpleNamespace(pretrained_config=config, extra_attrs={}))
    assert model.model_config.extra_attrs == {"attn_layers": 2}
    assert model.config is model.model_config.pretrained_config is model.llm.config
    assert model.config.architectures == [plugin.registration.ARCHITECTURES[family]]
    whole = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    model.load_weights(load_file(folder / "model.safetensors"))
    _, asked, texts = requests(plugin, folder)
    ids = [torch.tensor(one) for one, _ in asked]
    params = [SimpleNamespace(multimodal_data=more.get("multimodal_data")) for _, more in asked]
    found = model.forward(
        SimpleNamespace(num_contexts=3, lengths=[len(one) for one in ids]),
        torch.cat(ids),
        multimodal_params=params,
    )
    theirs, (first, second) = AutoProcessor.from_pretrained(folder), pictures()
    expected = []
    for text, images in zip(texts, ([first, second], None, [second]), strict=True):
        inputs = theirs(text=text, images=images, return_tensors="pt")
        with torch.no_grad():
            expected.append(whole(**inputs).logits[0])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    words = ids[1]  # a step of generation, and of requests without pictures
    step = model.forward(SimpleNamespace(num_contexts=0, lengths=[len(words)]), words)
    torch.testing.assert_close(step, expected[1], rtol=1e-4, atol=1e-5)


def test_what_the_server_is_told(plugin: SimpleNamespace, exported: dict[str, Path]) -> None:
    model = plugin.package.LlavaForTensorRT
    assert plugin.seen.encoders == {model: plugin.registration.LlavaEncoder}
    assert plugin.seen.processors == {model: plugin.package.LlavaInputProcessor}
    told = plugin.seen.placeholders["llava"]
    assert told.placeholder_map == {"image": "<image>"} and told.placeholders_separator == ""
    reads, asked, _ = requests(plugin, exported["qwen2"] / "model")
    (ids, more), (_, none) = asked[0], asked[1]
    assert none == {} and more["multimodal_data"]["image"]["pixel_values"].shape == (2, 3, 16, 16)
    assert reads.get_num_tokens_per_image(image=None) == 4
    beyond = [i for i in ids if i >= reads.get_vocab_size()]
    assert beyond == [reads.get_vocab_size() + 1] * 8
    assert reads.get_mm_token_ids() is None and reads.get_mm_special_token_ids() is None
    assert reads.image_max_dim == 128 and reads.model_path == str(exported["qwen2"] / "model")
    assert reads.dtype == torch.bfloat16 and reads.processor.image_token == "<image>"
    for inputs, sentence in (
        ({"prompt": "<image> and <image>", "multi_modal_data": {"image": pictures()[:1]}},
         "has 2 image tokens for 1 images; leave '<image>' out"),
        ({"prompt": "what is <image>?"}, "has 1 image tokens for 0 images"),
        ({"prompt": "hm", "multi_modal_data": {"video": [1]}}, "images only, not video"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            reads(inputs, SimpleNamespace(add_special_tokens=False))


def test_weights_that_were_never_loaded_are_noticed(
    plugin: SimpleNamespace, exported: dict[str, Path]
) -> None:
    config = LlavaConfig.from_pretrained(exported["qwen2"] / "model")
    model = plugin.package.LlavaForTensorRT(
        SimpleNamespace(pretrained_config=config, extra_attrs={})
    )
    asked = SimpleNamespace(multimodal_data={"image": {"pixel_values": torch.zeros(1, 3, 16, 16)}})
    with pytest.raises(RuntimeError, match="no weights"):
        model.forward(SimpleNamespace(num_contexts=1), None, multimodal_params=[asked])


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_families_that_it_has_not_are_refused(family: str, tmp_path: Path) -> None:
    clip, language = write_clip(tmp_path / "clip"), write_language(tmp_path / "lm", family)
    source = compose(clip, language, "linear", tmp_path / "source")
    with pytest.raises(CheckpointError, match=f"has no {family}; export a checkpoint whose"):
        write_trtllm(source, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"clip", "lm", "source"}


def test_no_sequence_is_longer_than_a_window(exported: dict[str, Path], tmp_path: Path) -> None:
    source = Checkpoint.open(exported["mistral"] / "model")
    for said, length in (({"sliding_window": None}, 256), ({"sliding_window": 64}, 64)):
        config = {**source.config, "text_config": {**source.config["text_config"], **said}}
        told = settings(Checkpoint(source.path, config, source.provenance))
        assert f"\nmax_seq_len: {length}\n" in told


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_with_neva_json_alone_gets_a_chat_template(
    tmp_path: Path, older: bool
) -> None:
    """And a tokenizer's class; an older file, which transformers would read first, goes."""
    source = Checkpoint.open(write_checkpoint(tmp_path / "source"))
    if older:
        record = json.dumps({"chat_template": "nothing of ours"})
        (source.path / "chat_template.json").write_text(record)
    write_trtllm(source, tmp_path / "out")
    folder, parts = tmp_path / "out" / "model", [{"type": "image"}, {"type": "text", "text": "Hm?"}]
    told = Conversation((Turn("user", (ImageSlot(0), "Hm?")),))
    expected = text_of(render(told, source.template, True))
    turn = [{"role": "user", "content": parts}]
    reads = AutoProcessor.from_pretrained(folder)
    for one in (reads, reads.tokenizer):
        assert one.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) == expected
    assert reads.tokenizer(expected).input_ids == source.tokenizer.encode(expected).ids
    kept = json.loads((folder / "tokenizer_config.json").read_text())
    assert kept["tokenizer_class"] == "PreTrainedTokenizerFast"  # 4.57 would take Llama's
