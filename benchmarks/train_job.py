"""What `train.py` measures: random weights of known shapes, samples with lengths like LLaVA's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NANO = {"size": 96, "patch": 16, "width": 192, "layers": 6, "heads": 6}
B32 = {"size": 224, "patch": 32, "width": 768, "layers": 12, "heads": 12}
L14 = {"size": 336, "patch": 14, "width": 1024, "layers": 24, "heads": 16}
SMOLLM2_135M = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 4096,
}
SMOLLM2_360M = SMOLLM2_135M | {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
}
SHAPES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "nano": (NANO, SMOLLM2_135M),
    "vit-b32": (B32, SMOLLM2_135M),
    "vit-l14-336": (L14, SMOLLM2_135M),
    "vit-b32-360m": (B32, SMOLLM2_360M),
}
"""CLIP's and the LM's sizes."""
STAGES = ("pretrain", "finetune", "lora")


@dataclass(frozen=True)
class Job:
    """One shape in one stage; the first of its steps is a warm-up."""

    shape: str
    stage: str
    steps: int
    batch_size: int
    threads: int
    work: Path

    @property
    def vision(self) -> dict[str, int]:
        return SHAPES[self.shape][0]

    @property
    def model(self) -> Path:
        return self.work / self.shape / "model"

    @property
    def data(self) -> Path:
        return self.work / self.shape / f"{self.stage}-{self.steps * self.batch_size}.json"

    @property
    def images(self) -> Path:
        return self.work / self.shape / "images"

    def recipe(self, cache: bool, **ours: bool) -> Any:
        """The recipe of all contenders, and what only `ours` knows."""
        from neva.train.recipe import Recipe

        longest = 2048 if self.vision["patch"] == 14 else 1024  # no sample reaches it
        return Recipe(
            stage="pretrain" if self.stage == "pretrain" else "finetune",
            lora=self.stage == "lora",
            lora_rank=32,
            lora_alpha=64.0,
            learning_rate={"pretrain": 1e-3, "finetune": 2e-5, "lora": 2e-4}[self.stage],
            batch_size=self.batch_size,
            max_steps=self.steps,
            warmup_ratio=0.0,
            precision="bf16",  # what the peers are told to compute in
            max_length=longest,
            row_tokens=longest,
            template="plain" if self.stage == "pretrain" else "chatml",
            feature_cache=cache,
            save_every=0,
            threads=self.threads,
            **ours,
        )


@dataclass(frozen=True)
class Target:
    """A sample without its picture: ids (T,), labels (T,) with -100 where nothing is learned."""

    ids: Any
    labels: Any
    image: str

    @property
    def supervised(self) -> int:
        return int((self.labels[1:] != -100).sum())


def prepare(job: Job) -> None:
    """Write weights, pictures and records, where they are not there from an earlier run."""
    if not job.model.is_dir():
        _compose(job)
    rng = np.random.default_rng(0)
    job.images.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(job.batch_size * job.steps):
        file = job.images / f"{number}.jpg"
        noise = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        if not file.exists():
            Image.fromarray(noise).resize((640, 480)).save(file)
        records.append(_record(number, job.stage, rng))
    job.data.write_text(json.dumps(records))


def read_steps(job: Job, parent: Any) -> tuple[Any, list[Any]]:
    """Our feed, closed again, and the steps it gave, with pictures."""
    from neva.train.feed import Feed

    feed = Feed.open(job.recipe(cache=False), parent, [job.data], job.images)
    feed.attach(None, print)  # type: ignore[arg-type]  # no cache, so no model is asked
    with feed:
        steps = [feed.next_step() for _ in range(job.steps)]
    return feed, [step for step in steps if step]


def targets(job: Job) -> list[Target]:
    """The samples in the order in which our run sees them."""
    from neva.data.samples import Encoding, encode_record
    from neva.model import Checkpoint

    parent = Checkpoint.open(job.model)
    feed, steps = read_steps(job, parent)
    order = [id for step in steps for id in step.sample_ids]
    encoding = Encoding(
        feed.template, parent.tokenizer, parent.image_token_id, parent.image_tokens, 2048
    )
    by_id = {record.id: encode_record(record, encoding) for record in feed.records}
    found = []
    for id in order:
        ids = np.array(by_id[id].encoded.ids)
        labels = np.where(by_id[id].encoded.supervised, ids, -100)
        found.append(Target(ids, labels, by_id[id].images[0]))
    return found


def step_work(job: Job, samples: Sequence[Target], live: bool) -> list[float]:
    """FLOPs of each step that the stage needs, by `neva.train.flops`; CLIP's only if `live`."""
    from neva.model import Checkpoint
    from neva.train.flops import step_flops
    from neva.train.shape import Shape

    shape, recipe = Shape.of_config(Checkpoint.open(job.model).config), job.recipe(cache=not live)
    work = []
    for start in range(0, len(samples), job.batch_size):
        part = samples[start : start + job.batch_size]
        lengths, learned = [len(s.ids) for s in part], sum(s.supervised for s in part)
        work.append(step_flops(shape, recipe, lengths, learned, images=len(part), live=live))
    return work


def _compose(job: Job) -> None:
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    from neva.model.compose import compose

    torch.manual_seed(0)
    folder, (v, lm) = job.work / job.shape, SHAPES[job.shape]
    vision = CLIPVisionConfig(
        hidden_size=v["width"],
        intermediate_size=4 * v["width"],
        num_hidden_layers=v["layers"],
        num_attention_heads=v["heads"],
        image_size=v["size"],
        patch_size=v["patch"],
    )
    CLIPVisionModel(vision).save_pretrained(folder / "clip")
    LlamaForCausalLM(LlamaConfig(**lm, tie_word_embeddings=True)).save_pretrained(folder / "lm")
    _tokenizer().save_pretrained(folder / "lm")
    compose(folder / "clip", folder / "lm", "mlp2x_gelu", job.model, template="chatml")


def _tokenizer() -> Any:
    """A word is a token, so that lengths are what `_record` says."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(1000)} | {"[UNK]": 1000}
    plain = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|im_end|>")


def _record(number: int, stage: str, rng: np.random.Generator) -> dict[str, Any]:
    """Captions of about 12 tokens; instructions of 1-4 turns whose answers vary from 2 to 200."""
    if stage == "pretrain":
        turns = [(1, int(rng.integers(8, 20)))]
    else:
        count = int(rng.integers(1, 5))
        answers = np.clip(rng.lognormal(3.3, 1.0, count), 2, 200).astype(int)
        turns = [(int(rng.integers(6, 20)), int(answer)) for answer in answers]
    conversation = []
    for at, (question, answer) in enumerate(turns):
        image = "<image>\n" if at == 0 else ""
        conversation.append({"from": "human", "value": image + _words(question, rng)})
        conversation.append({"from": "gpt", "value": _words(answer, rng)})
    return {"id": str(number), "image": f"{number}.jpg", "conversations": conversation}


def _words(count: int, rng: np.random.Generator) -> str:
    return " ".join(f"w{i}" for i in rng.integers(0, 1000, count))
