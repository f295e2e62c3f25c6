"""What a training run is asked to do: one frozen dataclass, checked when it is made.

Every field carries its own sentence. The same sentence is the command line's `--help`, so the two
cannot drift apart. Published values are in `recipes.py`.
"""
# ruff: noqa: RUF009  (option() is dataclasses.field with a sentence: it is made anew per field)

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Stage = Literal["pretrain", "finetune"]
Precision = Literal["auto", "bf16", "fp32"]


def option(default: Any, help: str) -> Any:
    """A field with its sentence; read again by `describe`."""
    return field(default=default, metadata={"help": help})


def describe(name: str) -> str:
    """The sentence of the field `name`."""
    for candidate in dataclasses.fields(Recipe):
        if candidate.name == name:
            return str(candidate.metadata["help"])
    raise KeyError(name)


@dataclass(frozen=True)
class Recipe:
    """One stage of training. `pretrain` learns the projector only; `finetune` also the LM."""

    stage: Stage = option("pretrain", "pretrain: only the projector learns. finetune: also the LM.")
    learning_rate: float = option(1e-3, "Peak learning rate of everything that learns.")
    projector_learning_rate: float | None = option(
        None, "Peak learning rate of the projector alone; unset: the same as everything else."
    )
    batch_size: int = option(256, "Samples per optimiser step, however many rows they fill.")
    epochs: float = option(1.0, "Passes over the data; a fraction is allowed.")
    max_steps: int | None = option(None, "Stop after this many steps instead of after the epochs.")
    warmup_ratio: float = option(0.03, "Share of the steps in which the rate climbs from 0.")
    floor_ratio: float = option(0.0, "Last learning rate of the cosine, as a share of the peak.")
    weight_decay: float = option(0.0, "Decoupled weight decay of matrices; vectors have none.")
    beta1: float = option(0.9, "AdamW's memory of the gradient.")
    beta2: float = option(0.999, "AdamW's memory of the squared gradient.")
    grad_clip: float = option(1.0, "Largest norm of the gradient; 0 leaves it as it is.")
    max_length: int = option(2048, "Longest sample in tokens, images expanded; longer are cut.")
    row_tokens: int = option(
        2048, "Tokens in one packed row, one forward pass: what activation memory grows with."
    )
    precision: Precision = option(
        "auto",
        "bf16: compute in bfloat16 over float32 master weights. fp32: all in float32. auto: bf16, "
        "or fp32 on a device that is slow at bfloat16, like a CPU without AVX512.",
    )
    lean_optimizer: bool = option(
        False,
        "12 bytes a weight that learns instead of 18: moments in bfloat16, rounded by chance, and "
        "masters without a second copy. Without --shard and --tensor-parallel.",
    )
    template: str | None = option(
        None, "Prompt template; unset: plain for pretrain, the checkpoint's own for finetune."
    )
    lora: bool = option(False, "finetune: learn a low-rank adapter instead of the whole LM.")
    lora_rank: int = option(128, "Rank of the adapter.")
    lora_alpha: float = option(256.0, "The adapter's output is scaled by alpha / rank.")
    lora_dropout: float = option(0.0, "Dropout before the adapter; LLaVA has 0.05, 0 is faster.")
    lora_targets: str = option(
        "all-linear", "The LM's layers with an adapter: all-linear, or names joined by commas."
    )
    lora_from: str = option(
        "", "Start from this saved adapter (an earlier run's adapter folder) instead of from zero."
    )
    lora_hold: str = option(
        "",
        "With --lora: parts of the adapter that stay as they began, by their names joined by "
        "commas: lora_A (only B learns: LoRA-FA, Zhang et al. 2023), or layers like up_proj. Less "
        "memory, and adapters that begin from one another differ in the rest alone.",
    )
    qlora: bool = option(
        False, "With --lora: the frozen LM lies in 4 bits (NF4). Needs CUDA and bitsandbytes."
    )
    shard: int = option(
        1,
        "Processes that hold one copy of the model among them (FSDP): 1: each a whole copy; "
        "0: all of them; fewer than all: several divided copies (HSDP).",
    )
    tensor_parallel: int = option(
        1, "Neighbouring processes that compute each layer together; for llama-like LMs."
    )
    feature_cache: bool = option(
        True, "Compute each image's frozen CLIP features once and keep them on disk."
    )
    pack: bool | None = option(
        None,
        "On a CPU in bfloat16: lay frozen layers of the LM out once for its products, a sixteenth "
        "faster for their size in memory once more; unset: up to half a GiB of them.",
    )
    checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, about a third more work."
    )
    validation_share: float = option(0.0, "Share of the records held out for a validation loss.")
    validate_every: int = option(0, "Steps between validation losses; 0: only at the end.")
    keep_best: bool = option(
        True, "Keep the weights of the lowest validation loss too, in RUN/best; needs validations."
    )
    probe_every: int = option(0, "Steps between probes; 0: only before the first and at the end.")
    save_every: int = option(500, "Steps between checkpoints to resume from; 0: only when stopped.")
    keep_last: int = option(2, "Checkpoints to keep; older ones are removed.")
    log_every: int = option(1, "Steps between lines of metrics.jsonl.")
    track: str = option(
        "", "Send metrics to tensorboard, wandb or trackio too; several are joined by commas."
    )
    spike_factor: float = option(
        4.0, "Warn and name the samples when a step's loss is this many times the running mean."
    )
    max_bad_share: float = option(
        0.05, "Stop when more than this share of the samples is broken; fewer are skipped, counted."
    )
    seed: int = option(0, "Seed of the order of samples and of dropout.")
    threads: int = option(0, "CPU threads of torch; 0: as many as the machine gives.")
    workers: int = option(2, "Threads that read and decode images ahead of the model.")

    def __post_init__(self) -> None:
        for name, good, remedy in _rules(self):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}: {remedy}")

    def with_values(self, **values: Any) -> "Recipe":
        """The same recipe with other values; None means unchanged."""
        return dataclasses.replace(self, **{k: v for k, v in values.items() if v is not None})

    def to_json(self) -> dict[str, Any]:
        """A plain dict, for `recipe.json` and for the checkpoint's provenance."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`; an unknown name is an error that lists the known ones."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown recipe fields {unknown}; known: {sorted(known)}")
        return cls(**values)


def _rules(r: Recipe) -> list[tuple[str, bool, str]]:
    """(field, holds, what to do) for every condition of a recipe."""
    return [
        ("stage", r.stage in get_args(Stage), "use pretrain or finetune"),
        ("precision", r.precision in get_args(Precision), "use auto, bf16 or fp32"),
        ("learning_rate", 0 < r.learning_rate < 1, "use a rate above 0 and below 1, like 1e-3"),
        (
            "projector_learning_rate",
            r.projector_learning_rate is None or 0 < r.projector_learning_rate < 1,
            "use a rate above 0 and below 1, or leave it unset",
        ),
        ("batch_size", r.batch_size >= 1, "use at least 1 sample per step"),
        ("epochs", 0 < r.epochs < math.inf, "use more than 0 passes over the data"),
        ("max_steps", r.max_steps is None or r.max_steps >= 1, "use at least 1 step, or unset"),
        ("warmup_ratio", 0 <= r.warmup_ratio < 1, "use a share from 0 to below 1"),
        ("floor_ratio", 0 <= r.floor_ratio <= 1, "use a share from 0 to 1"),
        ("weight_decay", r.weight_decay >= 0, "use 0 or more"),
        ("beta1", 0 <= r.beta1 < 1, "use 0 to below 1, like 0.9"),
        ("beta2", 0 <= r.beta2 < 1, "use 0 to below 1, like 0.999"),
        ("grad_clip", r.grad_clip >= 0, "use 0 to leave gradients unclipped, or a norm like 1.0"),
        ("max_length", r.max_length >= 8, "use at least 8 tokens"),
        (
            "row_tokens",
            r.row_tokens >= r.max_length,
            f"a row must hold the longest sample: use at least max_length, {r.max_length} "
            f"(add --row-tokens {r.max_length}), or a shorter max_length",
        ),
        ("lora", not (r.lora and r.stage == "pretrain"), "the LM is frozen in pretrain; drop it"),
        ("lora_rank", r.lora_rank >= 1, "use a rank of at least 1, like 16"),
        ("lora_dropout", 0 <= r.lora_dropout < 1, "use a share from 0 to below 1"),
        ("lora_from", r.lora or not r.lora_from, "it is an adapter's: give --lora too"),
        ("lora_hold", r.lora or not r.lora_hold, "it is an adapter's: give --lora too"),
        ("qlora", r.lora or not r.qlora, "it is a kind of LoRA: give --lora too"),
        (
            "qlora",
            not r.qlora or (r.shard == 1 and r.tensor_parallel == 1),
            "weights of 4 bits are not divided: leave --shard and --tensor-parallel at 1",
        ),
        ("lean_optimizer", not r.lean_optimizer or r.precision != "fp32", "use it with bf16"),
        (
            "lean_optimizer",
            not r.lean_optimizer or (r.shard == 1 and r.tensor_parallel == 1),
            "its masters are not divided: leave --shard and --tensor-parallel at 1",
        ),
        ("shard", r.shard >= 0, "use 0 for all processes, 1 for whole copies, or a number"),
        ("tensor_parallel", r.tensor_parallel >= 1, "use 1, or a number that divides the heads"),
        ("validation_share", 0 <= r.validation_share < 1, "use a share from 0 to below 1"),
        ("validate_every", r.validate_every >= 0, "use 0 or a number of steps"),
        ("probe_every", r.probe_every >= 0, "use 0 or a number of steps"),
        ("save_every", r.save_every >= 0, "use 0 or a number of steps"),
        ("keep_last", r.keep_last >= 1, "keep at least 1 checkpoint"),
        ("log_every", r.log_every >= 1, "use at least 1"),
        ("spike_factor", r.spike_factor > 1, "use more than 1, like 4"),
        ("max_bad_share", 0 <= r.max_bad_share <= 1, "use a share from 0 to 1"),
        ("seed", 0 <= r.seed < 2**63, "use a whole number from 0 on, below 2**63"),
        ("threads", r.threads >= 0, "use 0 or a number of threads"),
        ("workers", r.workers >= 0, "use 0 or a number of threads"),
    ]
