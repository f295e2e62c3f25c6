"""Training speed: ours against Hugging Face's Trainer, same model, samples, batch and machine.

    python benchmarks/train.py --shape vit-b32 --stage finetune --steps 6 --batch-size 16

The contenders run one after another, each in a process of its own, over the same random weights
and the same samples in the same order:

    neva         packed rows, loss at supervised positions, cached CLIP features
    neva live    the same with CLIP computed in every step
    hf llava     Trainer + LlavaForConditionalGeneration as LLaVA trains: padded batches, all
                 logits, bf16 autocast over fp32 weights, activation checkpointing
    hf lean      the same without activation checkpointing
    trl          TRL's SFTTrainer with its chunked loss over supervised positions, without
                 activation checkpointing; left out where trl is not installed. It needs an
                 environment of its own, or `pip install --target DIR --no-deps trl datasets ...`
                 and PYTHONPATH=DIR

The first step of each is a warm-up and is not counted. What fills the cache is told apart.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CONTENDERS = ("neva", "neva live", "hf llava", "hf lean", "trl")
VISION: dict[str, dict[str, int]] = {
    "nano": {"size": 96, "patch": 16, "width": 192, "layers": 6, "heads": 6},
    "vit-b32": {"size": 224, "patch": 32, "width": 768, "layers": 12, "heads": 12},
    "vit-l14-336": {"size": 336, "patch": 14, "width": 1024, "layers": 24, "heads": 16},
}
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 4096,
}


@dataclass(frozen=True)
class Job:
    """What is measured."""

    shape: str
    stage: str
    steps: int
    batch_size: int
    threads: int
    work: Path

    @property
    def model(self) -> Path:
        return self.work / self.shape / "model"

    @property
    def data(self) -> Path:
        return self.work / self.shape / f"{self.stage}.json"

    @property
    def images(self) -> Path:
        return self.work / self.shape / "images"

    def recipe(self, cache: bool) -> Any:
        """The recipe of both sides."""
        from neva.train.recipe import Recipe

        return Recipe(
            stage="pretrain" if self.stage == "pretrain" else "finetune",
            learning_rate=1e-3 if self.stage == "pretrain" else 2e-5,
            batch_size=self.batch_size,
            max_steps=self.steps,
            warmup_ratio=0.0,
            template="plain" if self.stage == "pretrain" else "chatml",
            feature_cache=cache,
            save_every=0,
            threads=self.threads,
        )


def prepare(job: Job) -> None:
    """Random weights of the shape, and samples with lengths like LLaVA's."""
    if not job.model.is_dir():
        _compose(job)
    rng = np.random.default_rng(0)
    job.images.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(job.batch_size * job.steps):
        file = job.images / f"{number}.jpg"
        if not file.exists():
            noise = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((640, 480)).save(file)
        records.append(_record(number, job.stage, rng))
    job.data.write_text(json.dumps(records))


def _compose(job: Job) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    from neva.model.compose import compose

    folder, v = job.work / job.shape, VISION[job.shape]
    vision = CLIPVisionConfig(
        hidden_size=v["width"],
        intermediate_size=4 * v["width"],
        num_hidden_layers=v["layers"],
        num_attention_heads=v["heads"],
        image_size=v["size"],
        patch_size=v["patch"],
    )
    CLIPVisionModel(vision).save_pretrained(folder / "clip")
    LlamaForCausalLM(LlamaConfig(**SMOLLM2, tie_word_embeddings=True)).save_pretrained(
        folder / "lm"
    )
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


def run_ours(job: Job, cache: bool) -> dict[str, Any]:
    """A run of ours, read from its metrics."""
    import shutil

    from neva.train.loop import run

    out = job.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    run(job.recipe(cache), job.model, [job.data], job.images, out)
    whole = time.perf_counter() - began
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["samples"] / line["samples_per_second"] for line in lines]
    return {
        "seconds": seconds,
        "waits": [s * line["data_share"] for s, line in zip(seconds, lines, strict=True)],
        "samples": [line["samples"] for line in lines],
        "supervised": [line["supervised_tokens"] for line in lines],
        "losses": [line["loss"] for line in lines],
        "outside": whole - sum(seconds),
    }


def run_peer(job: Job, recompute: bool, trl: bool = False) -> dict[str, Any]:
    """Hugging Face's Trainer, or TRL's, over the same samples in the same order."""
    import torch
    from transformers import AutoProcessor, Trainer, TrainerCallback, TrainingArguments

    from neva.model import Checkpoint
    from neva.model.keys import PROJECTOR, VISION, disk_name
    from neva.model.load import load_model

    torch.set_num_threads(job.threads or torch.get_num_threads())
    recipe, parent = job.recipe(cache=False), Checkpoint.open(job.model)
    model = load_model(parent, dtype=torch.float32, attention="sdpa")
    for name, parameter in model.named_parameters():
        disk = disk_name(name)
        frozen = disk.startswith(VISION) or (
            job.stage == "pretrain" and not disk.startswith(PROJECTOR)
        )
        parameter.requires_grad_(not frozen)
    samples = _samples(job, recipe, parent)
    clock: dict[str, list[float]] = {"seconds": [], "waits": [], "losses": []}

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Step times; the wait is what lies between two steps."""

        last = time.perf_counter()

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.last = time.perf_counter()

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock["waits"].append(time.perf_counter() - self.last)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            now = time.perf_counter()
            clock["seconds"].append(now - self.last)
            self.last = now

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                clock["losses"].append(float(logs["loss"]))

    trained_on: Any = samples
    collate: Any = _collate
    kinds: tuple[Any, Any, dict[str, Any], dict[str, Any]] = (Trainer, TrainingArguments, {}, {})
    if trl:
        from datasets import Dataset
        from datasets.table import InMemoryTable
        from trl import SFTConfig, SFTTrainer

        places = InMemoryTable.from_pydict({"at": list(range(len(samples)))})
        trained_on = Dataset(places, fingerprint="places")
        collate = _Rows(samples)
        processor = {"processing_class": AutoProcessor.from_pretrained(job.model)}
        more = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
        kinds = (SFTTrainer, SFTConfig, processor, more)
    trainer_class, arguments_class, inputs, more = kinds
    arguments = arguments_class(
        output_dir=str(job.work / "peer"),
        per_device_train_batch_size=job.batch_size,
        max_steps=job.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
        dataloader_num_workers=2,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        **more,
    )
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=trained_on,
        data_collator=collate,
        callbacks=[Clock()],
        **inputs,
    )
    trainer.train()
    supervised = [int((s["labels"][1:] != -100).sum()) for s in samples.targets]
    size = job.batch_size
    return {
        **clock,
        "samples": [size] * job.steps,
        "supervised": [sum(supervised[i * size : (i + 1) * size]) for i in range(job.steps)],
        "outside": 0.0,
    }


class _Samples:
    """The peer's data set: ids and labels of ours, pixels decoded and normalised by its workers."""

    def __init__(self, targets: list[dict[str, Any]], names: list[str], images: Any) -> None:
        self.targets, self.names, self.images = targets, names, images

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, at: int) -> dict[str, Any]:
        square = self.images(self.names[at]).square
        return {**self.targets[at], "pixels": _normalise(square, self.images.recipe)}


def _normalise(square: NDArray[np.uint8], recipe: Any) -> NDArray[np.float32]:
    pixels = (square.astype(np.float32) * recipe.rescale - recipe.mean) / recipe.std
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)


def _samples(job: Job, recipe: Any, parent: Any) -> _Samples:
    """The samples in the order in which our run sees them."""
    from neva.data.batch import PreparedImages
    from neva.data.samples import Encoding, encode_record
    from neva.data.stores import Folder
    from neva.train.feed import Feed

    feed = Feed.open(recipe, parent, [job.data], job.images)
    feed.attach(None, print)  # type: ignore[arg-type]  # no cache, so no model is asked
    with feed:
        order = [id for _ in range(job.steps) for id in feed.next_step().sample_ids]  # type: ignore[union-attr]
    encoding = Encoding(
        feed.template, parent.tokenizer, parent.image_token_id, parent.image_tokens, 2048
    )
    by_id = {record.id: encode_record(record, encoding) for record in feed.records}
    targets = []
    for id in order:
        ids = np.array(by_id[id].encoded.ids)
        labels = np.where(by_id[id].encoded.supervised, ids, -100)
        targets.append({"ids": ids, "labels": labels})
    names = [by_id[id].images[0] for id in order]
    return _Samples(targets, names, PreparedImages(Folder(job.images), parent.pixels))


def _collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Right padding to the longest, as LLaVA's collator."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(name: str, value: int) -> Any:
        rows = [torch.from_numpy(sample[name]) for sample in samples]
        return pad_sequence(rows, batch_first=True, padding_value=value)

    ids = padded("ids", 0)
    lengths = torch.tensor([len(sample["ids"]) for sample in samples])
    return {
        "input_ids": ids,
        "labels": padded("labels", -100),
        "attention_mask": (torch.arange(ids.shape[1])[None] < lengths[:, None]).long(),
        "pixel_values": torch.from_numpy(np.stack([sample["pixels"] for sample in samples])),
    }


class _Rows:
    """TRL takes a `datasets` table only: of places, which its workers turn into our samples."""

    def __init__(self, samples: _Samples) -> None:
        self.samples = samples

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        return _collate([self.samples[row["at"]] for row in rows])


def measure(job: Job, contender: str) -> dict[str, Any]:
    """Run one contender in this process."""
    if contender.startswith("neva"):
        found = run_ours(job, cache=contender == "neva")
    else:
        found = run_peer(job, recompute=contender == "hf llava", trl=contender == "trl")
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def row(name: str, found: dict[str, Any]) -> str:
    """A line of the table; the first step is a warm-up."""
    seconds, samples = sum(found["seconds"][1:]), sum(found["samples"][1:])
    return (
        f"{name:10} {samples / seconds:9.2f} {sum(found['supervised'][1:]) / seconds:12.1f} "
        f"{100 * sum(found['waits'][1:]) / seconds:7.1f}% {found['memory'] / 2**30:9.2f} "
        f"{found['losses'][0]:10.4f} {np.mean(found['losses'][-2:]):10.4f} {found['outside']:9.1f}"
    )


def main() -> None:
    """Measure every contender in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=VISION, default="nano")
    parser.add_argument("--stage", choices=["pretrain", "finetune"], default="finetune")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--only", choices=CONTENDERS, action="append")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    o = parser.parse_args()
    job = Job(o.shape, o.stage, o.steps, o.batch_size, o.threads, o.work)
    if o.measure:
        print("\n" + json.dumps(measure(job, o.measure)))
        return
    prepare(job)
    print(f"{job.shape}, {job.stage}, {job.steps} steps of {job.batch_size} samples")
    print("contender  samples/s supervised/s    wait  peak GiB first loss  last loss  outside s")
    known = [c for c in CONTENDERS if c != "trl" or importlib.util.find_spec("trl")]
    for contender in o.only or known:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", contender]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{contender:10} failed (exit {done.returncode})")
            continue
        print(row(contender, json.loads(done.stdout.splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()
