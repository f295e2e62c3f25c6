"""The peers of `train.py`: Hugging Face's Trainer, TRL's SFTTrainer, a plain loop as nanoVLM's.

All train the same checkpoint, loaded by plain transformers in float32 under bfloat16 autocast, on
padded batches of the same samples in the same order, with the same parameters frozen and the same
adapter. What they do differently is what they are: who computes which logits, and what is kept.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from train_job import Job, Target, targets

from neva.data.batch import PreparedImages
from neva.data.stores import Folder
from neva.model import Checkpoint
from neva.model.keys import PROJECTOR, VISION, disk_name
from neva.model.load import load_model

PEERS = ("hf llava", "hf lean", "trl", "nanovlm")


def run_peer(job: Job, name: str) -> dict[str, Any]:
    """Times, waits and losses of each step."""
    torch.set_num_threads(job.threads or torch.get_num_threads())
    samples = Samples(targets(job), PreparedImages(Folder(job.images), _parent(job).pixels))
    model = _model(job)
    clock = _loop(job, model, samples) if name == "nanovlm" else _trainer(job, name, model, samples)
    count, size = len(clock.seconds), job.batch_size
    learned = [sample.supervised for sample in samples.targets]
    return {
        "seconds": clock.seconds,
        "waits": clock.waits,
        "losses": clock.losses,
        "samples": [size] * count,
        "supervised": [sum(learned[at * size : (at + 1) * size]) for at in range(count)],
        "outside": 0.0,
    }


def _parent(job: Job) -> Checkpoint:
    return Checkpoint.open(job.model)


def _model(job: Job) -> Any:
    """The checkpoint with the stage's parameters free, or an adapter, all in float32."""
    model = load_model(_parent(job), dtype=torch.float32, attention="sdpa")
    if job.stage == "lora":
        from neva.train.learner import add_recipes_lora

        model.requires_grad_(False)
        add_recipes_lora(model, job.recipe(cache=False))
    for name, parameter in model.named_parameters():
        disk = disk_name(name)
        if disk.startswith(PROJECTOR):
            learns = True
        elif job.stage == "lora":
            learns = "lora_" in name
        else:
            learns = job.stage == "finetune" and not disk.startswith(VISION)
        parameter.requires_grad_(learns)
    return model


class Samples:
    """The peers' data set: ids and labels of ours, pixels decoded and normalised by workers."""

    def __init__(self, targets: Sequence[Target], images: PreparedImages) -> None:
        self.targets, self.images = targets, images

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, at: int) -> dict[str, Any]:
        target, recipe = self.targets[at], self.images.recipe
        square: Any = self.images(target.image).square
        pixels = (square.astype(np.float32) * recipe.rescale - recipe.mean) / recipe.std
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        return {"ids": target.ids, "labels": target.labels, "pixels": pixels}


class Rows:
    """TRL takes a `datasets` table only: of places, which its workers turn into our samples."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        return collate([self.samples[row["at"]] for row in rows])


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Right padding to the longest, as LLaVA's collator."""

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


@dataclass
class Clock:
    """Seconds of each step, of which waiting for data, and its loss."""

    seconds: list[float]
    waits: list[float]
    losses: list[float]


def _trainer(job: Job, name: str, model: Any, samples: Samples) -> Clock:
    """Hugging Face's Trainer, or TRL's, which is one."""
    from transformers import Trainer, TrainingArguments

    kinds: tuple[Any, Any] = (Trainer, TrainingArguments)
    trained_on: Any = samples
    given: dict[str, Any] = {"data_collator": collate}
    more: dict[str, Any] = {}
    if name == "trl":
        from transformers import AutoProcessor
        from trl import SFTConfig, SFTTrainer

        kinds, trained_on = (SFTTrainer, SFTConfig), _places(len(samples))
        given = {
            "data_collator": Rows(samples),
            "processing_class": AutoProcessor.from_pretrained(job.model),
        }
        more = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    trainer_class, arguments_class = kinds
    clock = Clock([], [], [])
    trainer_class(
        model=model,
        args=arguments_class(**_arguments(job, recompute=name == "hf llava"), **more),
        train_dataset=trained_on,
        callbacks=[_callback(clock)],
        **given,
    ).train()
    return clock


def _places(count: int) -> Any:
    """A table of the numbers below `count`."""
    from datasets import Dataset
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable.from_pydict({"at": list(range(count))}), fingerprint="places")


def _arguments(job: Job, recompute: bool) -> dict[str, Any]:
    return {
        "output_dir": str(job.work / "peer"),
        "per_device_train_batch_size": job.batch_size,
        "max_steps": job.steps,
        "learning_rate": job.recipe(cache=False).learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": recompute,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recompute else None,
        "dataloader_num_workers": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",
    }


def _callback(clock: Clock) -> Any:
    """Fills `clock` from inside a Trainer; the wait is what lies between two steps."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        last = 0.0

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.last = time.perf_counter()

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.waits.append(time.perf_counter() - self.last)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            now = time.perf_counter()
            clock.seconds.append(now - self.last)
            self.last = now

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                clock.losses.append(float(logs["loss"]))

    return Watch()


def _loop(job: Job, model: Any, samples: Samples) -> Clock:
    """nanoVLM's loop: autocast, the model's own loss, clip, AdamW, cosine; nothing recomputed."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    peak = job.recipe(cache=False).learning_rate
    adam = torch.optim.AdamW(learned, lr=peak, weight_decay=0.0)
    loader = DataLoader(samples, job.batch_size, collate_fn=collate, num_workers=2)  # type: ignore[arg-type]
    batches: Iterator[dict[str, Any]] = iter(loader)
    clock, last = Clock([], [], []), time.perf_counter()
    for step in range(job.steps):
        batch = next(batches)
        clock.waits.append(time.perf_counter() - last)
        adam.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / job.steps))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        clock.losses.append(float(loss.detach()))
        now = time.perf_counter()
        clock.seconds.append(now - last)
        last = now
    return clock
